"""Tagged sentences read from files, and written back to the byte."""

from __future__ import annotations

import codecs
import copy
import os
import pickle
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnncore.data import Sentence, format_conllu, parse_conllu, read_conllu, write_conllu


def row(number: str, word: str, tag: str = "_") -> str:
    return "\t".join([number, word, "_", tag, "_", "_", "_", "_", "_", "SpaceAfter=No"])


REAL = [
    "# newdoc id = one",
    "# text = Vámonos al mar\u2028.",
    row("1-2", "Vámonos"),
    row("1", "Vamos", "VERB"),
    row("2", "nos", "PRON"),
    row("3-4", "al"),
    row("3", "a", "ADP"),
    row("4", "el mar", "DET"),
    row("4.1", "ido", "VERB"),
    row("4.2", "_", "_"),
    row("5", "_", "_"),
    "",
    "# sent_id = 2",
    row("0.1", "nada", "X"),
    row("1", "#", "SYM"),
    "",
]
WORDS = [("Vamos", "nos", "a", "el mar", "_"), ("#",)]
TAGS = [("VERB", "PRON", "ADP", "DET", "_"), ("SYM",)]


def text_of(lines: list[str], end: str = "\n") -> str:
    return "".join(line + end for line in lines)


class TestReading:
    def test_conllu(self) -> None:
        sentences = parse_conllu(text_of(REAL))
        assert [sentence.words for sentence in sentences] == WORDS
        assert [sentence.tags for sentence in sentences] == TAGS
        assert [len(sentence) for sentence in sentences] == [5, 1]
        assert sentences[0].comments == tuple(REAL[:2])
        assert sentences[1].comments == ("# sent_id = 2",)
        assert sentences[0].text == text_of(REAL[:12])

    def test_word_and_tag(self) -> None:
        text = "# not a word\n#\tSYM\n# a\tX\nNew York\tPROPN\n\n\n  \n_\t_\n# the end\n\n"
        sentences = parse_conllu(text)
        assert [s.words for s in sentences] == [("#", "# a", "New York"), ("_",)]
        assert [s.tags for s in sentences] == [("SYM", "X", "PROPN"), ("_",)]
        assert sentences[0].comments == ("# not a word",)
        assert format_conllu(sentences) == text

    def test_words_alone(self) -> None:
        sentences = parse_conllu("#\n#tag\n# a remark\nGo\n\n!")
        assert [s.words for s in sentences] == [("#", "#tag", "Go"), ("!",)]
        assert [s.tags for s in sentences] == [("_", "_", "_"), ("_",)]
        tagged = [s.with_tags(["X"] * len(s)) for s in sentences]
        text = format_conllu(tagged)
        assert text == "#\tX\n#tag\tX\n# a remark\nGo\tX\n\n!\tX"
        assert [(s.words, s.tags) for s in parse_conllu(text)] == [
            (s.words, s.tags) for s in tagged
        ]

    def test_words_of_hashes_alone(self) -> None:
        assert parse_conllu("#\n")[0].words == ("#",)
        assert parse_conllu("# remark\n#\tSYM\n")[0].tags == ("SYM",)

    def test_comments_and_blank_lines_about(self) -> None:
        lines = ["", "# before", "", *REAL, "", "# behind", ""]
        sentences = parse_conllu(text_of(lines))
        assert [sentence.words for sentence in sentences] == WORDS
        assert sentences[0].comments[0] == "# before"
        assert sentences[1].comments[-1] == "# behind"
        assert format_conllu(sentences) == text_of(lines)

    def test_equal_words_are_one_object(self) -> None:
        one, two = parse_conllu("ab cd\tXY\n\nab cd\tXY\n")
        assert one.words[0] is two.words[0] and one.tags[0] is two.tags[0]

    def test_copies_and_pickles(self) -> None:
        [sentence, _] = parse_conllu(text_of(REAL))
        assert pickle.loads(pickle.dumps(sentence)) == copy.deepcopy(sentence) == sentence


MARKED = [
    ("utf-8", b""),
    ("utf-8", codecs.BOM_UTF8),
    ("utf-16-le", codecs.BOM_UTF16_LE),
    ("utf-16-be", codecs.BOM_UTF16_BE),
    ("utf-32-le", codecs.BOM_UTF32_LE),
    ("utf-32-be", codecs.BOM_UTF32_BE),
]


class TestRoundTrip:
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize(("encoding", "mark"), MARKED)
    def test_to_the_byte(self, tmp_path: Path, encoding: str, mark: bytes, end: str) -> None:
        raw = mark + text_of(REAL, end).encode(encoding)
        (tmp_path / "in").write_bytes(raw)
        sentences = read_conllu(tmp_path / "in")
        assert [sentence.words for sentence in sentences] == WORDS
        write_conllu(tmp_path / "out", sentences)
        assert (tmp_path / "out").read_bytes() == raw
        changed = [sentence.with_tags(["NEW"] * len(sentence)) for sentence in sentences]
        write_conllu(tmp_path / "in", iter(changed))
        lines = [
            row(line.split("\t")[0], line.split("\t")[1], "NEW")
            if line.split("\t")[0].isdigit()
            else line
            for line in REAL
        ]
        assert (tmp_path / "in").read_bytes() == mark + text_of(lines, end).encode(encoding)

    @pytest.mark.parametrize("asked", ["utf-16", "utf-32", "utf-8-sig", "latin-1", "UTF8"])
    def test_an_encoding_that_is_asked_for(self, tmp_path: Path, asked: str) -> None:
        raw = "für\tADP\n".encode(asked)
        (tmp_path / "in").write_bytes(raw)
        sentences = read_conllu(tmp_path / "in", asked)
        assert sentences[0].words == ("für",)
        write_conllu(tmp_path / "out", sentences)
        assert (tmp_path / "out").read_bytes() == raw
        write_conllu(tmp_path / "out", sentences, "utf-8")
        assert (tmp_path / "out").read_bytes() == "für\tADP\n".encode()
        write_conllu(tmp_path / "out", sentences, asked)
        assert (tmp_path / "out").read_bytes() == raw

    def test_utf_16_without_a_mark(self, tmp_path: Path) -> None:
        raw = "Go\tVERB\n".encode("utf-16-be")
        (tmp_path / "in").write_bytes(raw)
        write_conllu(tmp_path / "out", read_conllu(tmp_path / "in", "utf-16-be"))
        assert (tmp_path / "out").read_bytes() == raw

    @given(st.data())
    def test_any_file(self, data: st.DataObject) -> None:
        """What `parse_conllu` takes in comes out, and tags replaced come back."""
        columns = data.draw(st.sampled_from([10, 2]))
        # Whatever str.splitlines cuts at or str.strip strips may be within a word.
        letters = st.characters(exclude_characters="\t\r\n\0", codec="utf-8")
        strange = st.sampled_from("\u2028\x85\x0c\x1c\u3000\ufeff#_-.1 ")
        word = st.text(letters | strange, min_size=1, max_size=4).filter(lambda w: w.strip(" "))
        tag = st.text(letters, min_size=1, max_size=3).filter(lambda t: t.split() == [t])
        end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
        text, expected = "", []
        for _ in range(data.draw(st.integers(1, 4))):
            words = data.draw(st.lists(word, min_size=1, max_size=5))
            tags = data.draw(st.lists(tag, min_size=len(words), max_size=len(words)))
            lines = ["# " + data.draw(st.text(letters, max_size=5))]
            for number, (one, its) in enumerate(zip(words, tags, strict=True), 1):
                if columns == 2:
                    lines.append(f"{one}\t{its}")
                    continue
                if data.draw(st.booleans()):
                    lines.append(row(f"{number - 1}.1", one, its))
                if data.draw(st.booleans()):
                    lines.append(row(f"{number}-{number}", one))
                lines.append(row(str(number), one, its))
            blank = data.draw(st.integers(1, 3))
            text += text_of([*lines, *[""] * blank], end)
            expected.append((tuple(words), tuple(tags)))
        text = text[: len(text) - data.draw(st.integers(0, 2)) * len(end)]
        text = data.draw(st.sampled_from(["", end, "# top" + end])) + text
        sentences = parse_conllu(text)
        assert [(s.words, s.tags) for s in sentences] == expected
        assert format_conllu(sentences) == text
        assert [s.with_tags(s.tags) for s in sentences] == sentences
        other = [s.with_tags(data.draw(st.permutations(s.tags))) for s in sentences]
        again = parse_conllu(format_conllu(other))
        assert again == other
        # In another order, with blank lines put where the last sentence had none.
        turned = parse_conllu(format_conllu(other[::-1]))
        assert [(s.words, s.tags) for s in turned] == [(s.words, s.tags) for s in other[::-1]]

    @given(
        st.lists(
            st.text("ab#_ é", min_size=1, max_size=4).filter(lambda w: w.strip(" ")), min_size=1
        ),
        st.sampled_from([10, 2]),
    )
    def test_sentences_that_no_file_had(self, words: list[str], columns: int) -> None:
        tags = [f"T{number % 3}" for number in range(len(words))]
        sentences = [Sentence.of(words, tags, columns), Sentence.of(["end"], columns=columns)]
        assert parse_conllu(format_conllu(sentences)) == sentences

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("tail", [0, 1, 2])
    def test_a_blank_line_is_put_where_one_is_missing(self, end: str, tail: int) -> None:
        [first] = parse_conllu("a\tX" + end + "b\tX" + end * tail)
        text = format_conllu([first, first])
        assert text == ("a\tX" + end + "b\tX" + end * 2) + first.text

    def test_real_data(self, data_folder: Path, tmp_path: Path) -> None:
        counts = {}
        folder = data_folder / "tagging" / "ud-english-ewt"
        if not folder.is_dir():
            pytest.skip(f"no treebank in {folder}")
        for name in ("train", "dev", "test"):
            sentences = read_conllu(folder / f"{name}.conllu")
            counts[name] = len(sentences), sum(map(len, sentences))
            assert len(Counter(tag for s in sentences for tag in s.tags)) == 17
            write_conllu(tmp_path / name, [s.with_tags(list(s.tags)) for s in sentences])
            assert (tmp_path / name).read_bytes() == (folder / f"{name}.conllu").read_bytes()
        assert counts == {"train": (12544, 204577), "dev": (2001, 25147), "test": (2077, 25094)}


MALFORMED = [
    (["a\tb\tc"], 1, "expected ten columns (CoNLL-U), two (word, tag) or one (word), got 3"),
    (["", "The DT"], 2, "expected one word, or a word, a tab and its tag, got spaces"),
    ([row("1", "a"), "2\tb"], 2, "expected 10 columns separated by tabs, as in the lines"),
    (["a\tX", "b"], 2, "expected 2 columns separated by tabs, as in the lines before, got 1"),
    (["a\tX", "#b"], 2, "expected 2 columns"),
    (["a", "b\tX"], 2, "expected 1 columns"),
    (["a\t"], 1, "expected something in column 2, got nothing; write _"),
    (["a\tX", " \tX"], 2, "expected something in column 1, got nothing"),
    (["a\tX Y"], 1, "expected a tag without white space, got 'X Y'"),
    (["a\tX\u00a0"], 1, r"expected a tag without white space, got 'X\xa0'"),
    ([row("1", "a", "X Y")], 1, "expected a tag without white space"),
    ([row("1", "a"), row("2", "")], 2, "expected something in column 2, got nothing"),
    ([row("1", "a"), row("3", "b")], 2, "expected 2, a range from it such as 2-3, or the empty"),
    ([row("1", "a"), "# two", row("1", "b")], 3, "the empty node 1.1 in column 1, got '1'"),
    ([row("2", "a")], 1, "got '2'; put a blank line between sentences and number the words"),
    ([row("01", "a")], 1, "got '01'"),
    ([row("x", "a")], 1, "got 'x'"),
    ([row("１", "a")], 1, "got '１'"),
    ([row("1-1" + "0" * 5000, "a")], 1, "expected 1, a range"),
    ([row("2-3", "a")], 1, "got '2-3'"),
    ([row("1-0", "a")], 1, "got '1-0'"),
    ([row("1-", "a")], 1, "got '1-'"),
    ([row("1-3", "a"), row("1", "b"), row("2-3", "c")], 3, "got '2-3'"),
    ([row("1-3", "a"), row("1", "b"), ""], 3, "expected words up to 3, where a range ends, got 1"),
    ([row("1-3", "a"), row("1", "b"), "", row("1", "b")], 3, "expected words up to 3"),
    ([row("0.2", "a")], 1, "got '0.2'"),
    ([row("1", "a"), row("1.1", "b"), row("1.1", "c")], 3, "got '1.1'"),
    ([row("1", "a"), row("2.1", "b")], 2, "got '2.1'"),
    ([row("0.1", "a"), "", row("1", "a")], 2, "expected a sentence with one word at least"),
]


class TestBadInput:
    @pytest.mark.parametrize(("lines", "number", "message"), MALFORMED)
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    def test_malformed(
        self, tmp_path: Path, lines: list[str], number: int, message: str, end: str
    ) -> None:
        path = tmp_path / "bad.conllu"
        path.write_bytes(text_of(lines, end).encode())
        with pytest.raises(ValueError) as caught:
            read_conllu(path)
        found = str(caught.value)
        assert found.startswith(f"path: {str(path)!r}, line {number}: ")
        assert message in found and "\n" not in found

    @pytest.mark.parametrize("text", ["", "\n\n", "# a remark\n", "\ufeff"])
    def test_no_sentence(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "none").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=r"none': expected one sentence at least, got none"):
            read_conllu(tmp_path / "none")

    def test_wrong_encoding(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes("für\tADP\n".encode("latin-1"))
        with pytest.raises(ValueError, match=r"encoding: expected .*a' to be utf-8 text.* byte 1"):
            read_conllu(tmp_path / "a")
        (tmp_path / "b").write_bytes("Go\tVERB\n".encode("utf-16-le"))
        with pytest.raises(ValueError, match=r"b': expected text, got a NUL .* 'utf-16'"):
            read_conllu(tmp_path / "b")
        for name in ("utf-9", "bytes", "rot13"):
            with pytest.raises(ValueError, match="encoding: expected a name that Python knows"):
                read_conllu(tmp_path / "a", name)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"path: expected a file.*gone' does not exist"):
            read_conllu(tmp_path / "gone")
        with pytest.raises(ValueError, match="is a folder; name a file"):
            read_conllu(tmp_path)
        with pytest.raises(ValueError, match="is a device or a pipe"):
            read_conllu(os.devnull)

    def test_tags(self) -> None:
        sentence = Sentence.of(["a", "b"])
        with pytest.raises(ValueError, match="tags: expected 2, got 1; give one tag for each"):
            sentence.with_tags(["X"])
        with pytest.raises(TypeError, match="tags: expected a list of str, got str"):
            sentence.with_tags("XY")
        with pytest.raises(TypeError, match="tags: expected str, got int"):
            sentence.with_tags(["X", 1])  # type: ignore[list-item]
        with pytest.raises(TypeError, match="tags: expected str, got list"):
            sentence.with_tags(["X", []])  # type: ignore[list-item]
        for tag in ("", " ", "X\t", "X\n", "X Y", "\u2003X"):
            with pytest.raises(ValueError, match=r"tags: expected (text|no white space)"):
                sentence.with_tags(["X", tag])

    def test_made_sentences(self) -> None:
        with pytest.raises(ValueError, match="words: expected one word at least"):
            Sentence.of([])
        with pytest.raises(ValueError, match=r"words: expected text without tabs .* got 'a\\tb'"):
            Sentence.of(["a\tb"])
        with pytest.raises(TypeError, match="words: expected a list of str, got str"):
            Sentence.of("ab")
        with pytest.raises(ValueError, match=r"columns: expected 10 .* or 2 .*, got 1"):
            Sentence.of(["a"], columns=1)

    def test_writing(self, tmp_path: Path) -> None:
        path = tmp_path / "out"
        with pytest.raises(ValueError, match=r"sentences: expected one at least.* got none"):
            write_conllu(path, [])
        with pytest.raises(TypeError, match="sentences: expected Sentence, got list"):
            write_conllu(path, [["a"]])  # type: ignore[list-item]
        mixed = [Sentence.of(["a"]), Sentence.of(["a"], columns=2)]
        with pytest.raises(ValueError, match="got some with 2 and some with 10"):
            write_conllu(path, mixed)
        with pytest.raises(ValueError, match=r"encoding: .* got 'ascii', which has no 'ü'"):
            write_conllu(path, [Sentence.of(["für"])], "ascii")
        with pytest.raises(ValueError, match=r"path: .* is a device"):
            write_conllu(os.devnull, [Sentence.of(["a"])])
        with pytest.raises(FileNotFoundError):
            write_conllu(tmp_path / "gone" / "out", [Sentence.of(["a"])])
        assert not path.exists()
