"""Reading text, numbering its characters, cutting it into streams and chunks."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnncore.data import (
    TextChunks,
    TextSource,
    UnitSettings,
    Vocabulary,
    read_text,
    read_tokens,
    reading,
    split_text,
)
from rnncore.data import vocabulary as vocabulary_module

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


def write(folder: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


class TestReadText:
    def test_arguments_keep_their_order_and_a_folder_is_sorted(self, tmp_path: Path) -> None:
        write(tmp_path, z="z", b="b", sub__a="a", a="A")
        assert read_text([tmp_path / "z", tmp_path]) == "z\nA\nb\na"

    def test_a_file_named_twice_is_read_once(self, tmp_path: Path) -> None:
        write(tmp_path, a="a", b="b")
        os.symlink(tmp_path / "a", tmp_path / "c")
        assert read_text([tmp_path / "a", tmp_path, f"{tmp_path}/*"]) == "a\nb"

    def test_glob(self, tmp_path: Path) -> None:
        write(tmp_path, b_c="1", a_c="2", a_h="3", deep__er__x_c="4")
        assert read_text(f"{tmp_path}/*.c") == "2\n1"
        assert read_text(f"{tmp_path}/**/*.c") == "2\n1\n4"

    def test_a_name_with_marks_of_a_pattern_is_taken_as_it_stands(self, tmp_path: Path) -> None:
        (tmp_path / "[draft].txt").write_text("kept")
        assert read_text(tmp_path / "[draft].txt") == "kept"

    def test_a_folder_gives_its_text_alone(self, tmp_path: Path) -> None:
        write(tmp_path, a_txt="text", picture_png=PNG)
        (tmp_path / ".git").mkdir()
        (tmp_path / ".git" / "config").write_text("hidden")
        (tmp_path / ".hidden").write_text("hidden")
        assert read_text(tmp_path) == "text"

    def test_line_ends_and_byte_order_mark(self, tmp_path: Path) -> None:
        write(tmp_path, a=b"\xef\xbb\xbfone\r\ntwo\rthree\n")
        assert read_text(tmp_path / "a") == "one\ntwo\nthree\n"

    def test_encodings(self, tmp_path: Path) -> None:
        write(tmp_path, a="fünf".encode("latin-1"), b="fünf".encode("utf-16"))
        assert read_text(tmp_path / "a", "latin-1") == "fünf"
        assert read_text(tmp_path / "b", "utf-16") == "fünf"

    def test_bytes_are_left_alone(self, tmp_path: Path) -> None:
        content = bytes(range(256))
        write(tmp_path, a=content)
        assert read_text(tmp_path, "bytes") == content

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"gone.txt' does not exist"):
            read_text(tmp_path / "gone.txt")

    def test_pattern_without_a_match(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="no file matches"):
            read_text(f"{tmp_path}/*.c")

    @pytest.mark.parametrize("content", [{}, {"picture_png": PNG}])
    def test_folder_with_no_text(self, tmp_path: Path, content: dict[str, bytes]) -> None:
        write(tmp_path, **content)
        with pytest.raises(ValueError, match="no file that is text"):
            read_text(tmp_path)

    def test_empty_text(self, tmp_path: Path) -> None:
        write(tmp_path, a="")
        with pytest.raises(ValueError, match=r"empty text from .*a"):
            read_text(tmp_path / "a")
        with pytest.raises(ValueError, match="no file at all"):
            read_text([])

    def test_not_utf_8_names_the_place_and_both_ways_out(self, tmp_path: Path) -> None:
        write(tmp_path, a="ab\xe9".encode("latin-1"))
        with pytest.raises(ValueError, match=r"at byte 2.*--encoding latin-1.*--unit bytes"):
            read_text(tmp_path)

    def test_unknown_encoding(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"encoding: .*'utf-9'"):
            read_text(write(tmp_path, a="a"), "utf-9")


class TestVocabulary:
    @given(st.text(min_size=1))
    def test_round_trip(self, text: str) -> None:
        vocabulary = Vocabulary(text)
        tokens = vocabulary.encode(text)
        assert tokens.dtype == (np.uint8 if len(vocabulary) <= 256 else np.uint16)
        assert [sorted(set(text))[token] for token in tokens] == list(text)
        assert vocabulary.decode(tokens) == text
        assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary

    @given(st.binary(min_size=1))
    def test_round_trip_of_bytes(self, text: bytes) -> None:
        vocabulary = Vocabulary(text)
        assert [sorted(set(text))[token] for token in vocabulary.encode(text)] == list(text)
        assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary

    def test_a_string_in_bytes_is_utf_8(self) -> None:
        vocabulary = Vocabulary("fünf".encode())
        assert vocabulary.encode("ü").size == 2
        assert vocabulary.decode(vocabulary.encode("fünf")) == "fünf"
        assert vocabulary.decode(vocabulary.encode("ü")[:1]) == "\ufffd"

    @pytest.mark.parametrize("wrong", [[-1], [0, 3], [1.5], ["a"]])
    def test_numbers_that_stand_for_nothing(self, wrong: list) -> None:
        with pytest.raises(
            (ValueError, TypeError), match=r"^tokens: (index out of range: )?expected"
        ):
            Vocabulary("abc").decode(wrong)

    def test_what_is_no_text(self) -> None:
        with pytest.raises(TypeError, match="text: expected str, got int"):
            Vocabulary("abc").encode(3)  # type: ignore[arg-type]

    def test_characters_and_bytes_are_not_the_same(self) -> None:
        assert Vocabulary("abc") != Vocabulary(b"abc")

    @pytest.mark.parametrize("text", ["!x", "b", "zé\U0001f600"])
    def test_unknown_characters_are_listed(self, text: str) -> None:
        with pytest.raises(ValueError, match=f"got {text[-1]!r}|got .*, {text[-1]!r}"):
            Vocabulary("ac!z").encode(text)

    def test_empty_text(self) -> None:
        with pytest.raises(ValueError, match="at least one character"):
            Vocabulary("")


def test_split_text_takes_the_end() -> None:
    tokens = np.arange(1000, dtype=np.int32)
    training, validation = split_text(tokens, 0.05)
    assert np.array_equal(np.concatenate([training, validation]), tokens)
    assert validation.size == 50
    assert split_text(tokens, 0.0)[1].size == 0
    for fraction in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="validation_fraction"):
            split_text(tokens, fraction)


@pytest.mark.parametrize(
    ("size", "batch_size", "sequence_length"), [(101, 4, 5), (100, 3, 7), (8, 1, 7), (9, 8, 1)]
)
def test_chunks_run_along_contiguous_streams(
    size: int, batch_size: int, sequence_length: int
) -> None:
    tokens = np.arange(size, dtype=np.int32)
    chunks = TextChunks(tokens, batch_size, sequence_length)
    epoch = [chunks.batch(number) for number in range(chunks.per_epoch)]
    continues = [chunks.continues(number) for number in range(chunks.per_epoch + 1)]
    assert continues == [False] + [True] * (len(epoch) - 1) + [False]
    streams = np.concatenate([inputs for inputs, _ in epoch])
    length = (size - 1) // batch_size // sequence_length * sequence_length
    assert streams.shape == (length, batch_size)
    assert chunks.used == streams.size
    for b in range(batch_size):
        assert np.array_equal(streams[:, b], tokens[b * length : (b + 1) * length])
    # Token k is the number k, so the next one is k + 1.
    assert all(np.array_equal(targets, inputs + 1) for inputs, targets in epoch)
    assert np.array_equal(chunks.batch(chunks.per_epoch)[0], epoch[0][0])


def test_text_shorter_than_one_batch() -> None:
    TextChunks(np.zeros(51, dtype=np.int32), 5, 10)
    with pytest.raises(ValueError, match="= 51 characters to train on, got 50"):
        TextChunks(np.zeros(50, dtype=np.int32), 5, 10)


@pytest.mark.parametrize("size", [2, 11, 12, 31, 32, 33])
def test_single_pass_leaves_nothing_out(size: int) -> None:
    chunks = TextChunks(np.arange(size, dtype=np.int32), 1, 10, every_step=True)
    batches = [chunks.batch(number) for number in range(chunks.per_epoch)]
    assert np.array_equal(np.concatenate([b[0] for b in batches])[:, 0], np.arange(size - 1))
    assert np.array_equal(np.concatenate([b[1] for b in batches])[:, 0], np.arange(1, size))


def test_files_without_a_last_newline_get_one_between(tmp_path: Path) -> None:
    write(tmp_path, a="a", b="", c="c\n", d=b"d\r", e="e")
    assert read_text(tmp_path) == "a\nc\nd\ne"
    assert read_text([tmp_path / "a", tmp_path / "e"], "bytes") == b"ae"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_the_mark_of_utf_16_is_recognised(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a").write_bytes("\ufefffünf €\r\n".encode(encoding))
    assert read_text(tmp_path) == "fünf €\n"
    assert read_text(tmp_path / "a") == "fünf €\n"


def test_devices_and_pipes_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", tmp_path / "pipe"):
        with pytest.raises(ValueError, match=r"expected a regular file.*to a file first"):
            read_text(path)
    (tmp_path / "a").write_text("a")
    assert read_text(tmp_path) == read_text(f"{tmp_path}/*") == "a"


@pytest.mark.parametrize("block", [1, 2, 3, 7])
def test_blocks_may_end_anywhere(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "ab\r\nc\ré€\U0001f600\r\n\rz"
    (tmp_path / "a").write_bytes(text.encode())
    (tmp_path / "b").write_bytes("\ufeffé\r\n".encode("utf-16-le"))
    monkeypatch.setattr(reading, "BLOCK_BYTES", max(block, 4))
    monkeypatch.setattr(vocabulary_module, "BLOCK", block)
    whole = "ab\nc\né€\U0001f600\n\nz\né\n"
    assert read_text(tmp_path) == whole
    vocabulary, tokens = read_tokens(tmp_path)
    assert vocabulary == Vocabulary(whole)
    assert vocabulary.decode(tokens) == whole
    (tmp_path / "c").write_bytes(b"0123456789\xff")
    with pytest.raises(ValueError, match="at byte 10"):
        read_text(tmp_path)


def test_tokens_are_as_small_as_fits() -> None:
    for size, dtype in ((256, np.uint8), (257, np.uint16), (65536, np.uint16), (65537, np.int32)):
        text = "".join(map(chr, [c for c in range(70000) if not 0xD800 <= c < 0xE000][:size]))
        vocabulary = Vocabulary(text)
        tokens = vocabulary.encode(text)
        assert tokens.dtype == dtype
        assert np.array_equal(tokens, np.arange(size))
        assert vocabulary.decode(tokens) == text


def test_a_text_above_the_limit_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("to be or not to be\n" * 500)
    expected = read_tokens(tmp_path)[1]
    monkeypatch.setattr(reading, "MAPPED_BYTES", 1000)
    vocabulary, tokens = read_tokens(tmp_path)
    assert isinstance(tokens, np.memmap) and not isinstance(expected, np.memmap)
    assert np.array_equal(tokens, expected)
    cut = {"batch_size": 4, "sequence_length": 10}
    mapped, usual = TextSource(tokens, **cut), TextSource(expected, **cut)
    assert mapped.fingerprint == usual.fingerprint
    for number in range(mapped.per_epoch):
        for one, other in zip(mapped.batch(number), usual.batch(number), strict=True):
            assert np.array_equal(one, other) and type(one) is np.ndarray
    with pytest.raises(ValueError, match="never seen"):
        read_tokens(tmp_path, Vocabulary("abc"))
    with pytest.raises(ValueError, match=r"encoding: .* got 'bytes'; .* the unit 'bytes'"):
        read_tokens(tmp_path, vocabulary, "bytes")
    with pytest.raises(TypeError, match="settings: expected none beside a vocabulary"):
        read_tokens(tmp_path, vocabulary, settings=UnitSettings())
    with pytest.raises(ValueError, match="encoding: expected none for the unit 'bytes'"):
        read_tokens(tmp_path, encoding="latin-1", settings=UnitSettings("bytes"))


def test_the_fingerprint_is_of_values() -> None:
    tokens = np.arange(500) % 11
    cut = {"batch_size": 2, "sequence_length": 5}
    kinds = (np.uint8, np.int16, np.int32, np.int64, ">i4", np.uint64)
    prints = {TextSource(tokens.astype(kind), **cut).fingerprint for kind in kinds}
    prints.add(TextSource(np.repeat(tokens, 2)[::2], **cut).fingerprint)
    assert len(prints) == 1
    assert TextSource(tokens[::-1], **cut).fingerprint not in prints


def test_one_held_out_character_is_none() -> None:
    source = TextSource(np.arange(100) % 9, batch_size=2, sequence_length=5,
                        validation_fraction=0.01)  # fmt: skip
    assert source.held_out is None
    assert "the last 0 held out" in source.describe()


def test_what_is_left_over_is_said() -> None:
    cut = {"batch_size": 3, "sequence_length": 10}
    source = TextSource(np.arange(200) % 9, **cut)
    assert source.describe() == (
        "200 characters; the last 10 held out; 180 trained on, 9 left over by 3 streams of 6 x 10"
    )
    fits = TextSource(np.arange(181) % 9, **cut, validation_fraction=0)
    assert fits.describe() == "181 characters; the last 0 held out"


@pytest.mark.parametrize("character", ["e", "\u20ac"])
def test_memory_is_at_most_three_times_the_file(tmp_path: Path, character: str) -> None:
    """From the file to a batch; with a character for which Python's text takes twice the bytes."""
    path = tmp_path / "a"
    path.write_text(("to be or not to be\n" * 53 + character) * 16_000)
    size = path.stat().st_size
    assert size > 16_000_000
    for numbered_alone in (True, False):
        if not numbered_alone and character != "e":
            continue  # text of wider characters is as large as Python makes it
        tracemalloc.start()
        if numbered_alone:
            _, tokens = read_tokens(path)
        else:
            text = read_text(path)
            tokens = Vocabulary(text).encode(text)
        source = TextSource(tokens)
        source.batch(3)
        assert source.fingerprint
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3 * size, peak / size
