"""Reading text, numbering its characters, cutting it into streams and chunks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnncore.data import TextChunks, Vocabulary, read_text, split_text

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
        with pytest.raises(ValueError, match=r"at byte 2.*--encoding latin-1.*--encoding bytes"):
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
