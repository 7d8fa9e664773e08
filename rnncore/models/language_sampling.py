"""A language model writes: symbol after symbol, each drawn from what it predicts."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from rnncore.arguments import check_seed, check_size
from rnncore.data.text_words import TextWords
from rnncore.data.vocabulary import Vocabulary, as_bytes
from rnncore.models.language_drawing import Drawing, check_predicted

if TYPE_CHECKING:
    from rnncore.models.language_network import LanguageNetwork

AT_ONCE = 16  # symbols that are drawn before the first of them is given
READ_AT_ONCE = 64  # of a prime: what is predicted behind each of them takes memory


class Writer:
    """What a language model and its network write with."""

    def _network(self) -> Any:
        raise NotImplementedError

    @overload
    def sample(
        self, length: int, temperature: float = ..., prime: str = ..., seed: int | None = ...,
        *, samples: None = ..., stop: str | None = ..., top_k: int | None = ...,
        top_p: float | None = ..., repetition_penalty: float = ...,
        repetition_window: int | None = ...,
    ) -> str: ...  # fmt: skip

    @overload
    def sample(
        self, length: int, temperature: float = ..., prime: str = ..., seed: int | None = ...,
        *, samples: int, stop: str | None = ..., top_k: int | None = ...,
        top_p: float | None = ..., repetition_penalty: float = ...,
        repetition_window: int | None = ...,
    ) -> list[str]: ...  # fmt: skip

    def sample(
        self,
        length: int,
        temperature: float = 1.0,
        prime: str = "",
        seed: int | None = None,
        *,
        samples: int | None = None,
        stop: str | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        repetition_penalty: float = 1.0,
        repetition_window: int | None = None,
    ) -> str | list[str]:
        r"""Write text, one symbol after the other, each drawn from the model's distribution.

        ``p_i = exp(logit_i / temperature) / sum_j exp(logit_j / temperature)``

        over all symbols but the unknown, which is never written; `Drawing` says in which order the
        options change it.

        Parameters
        ----------
        length
            How many symbols to write after `prime`.
        temperature
            Below 1 safer, above 1 wilder; 0 always takes the likeliest symbol.
        prime
            The text to go on from; the result begins with it, its line ends made ``\n`` as in
            `read_text`. When empty, the model starts as after the end of a line. With words, one
            space at the end belongs to the first word written.
        seed
            The same seed writes the same text; None another one each time.
        samples
            How many texts; None writes one and returns it alone. Sample k is the one that seed
            ``seed + k`` writes by itself; the engine writes all of them at once.
        stop
            A text that ends a sample: it is the last thing written. The prime does not count.
        top_k, top_p
            Draw from the k likeliest symbols, or from as few as have the share p.
        repetition_penalty, repetition_window
            Above 1 makes less likely what is among the last symbols, 64 by default.

        Returns
        -------
        text : str
            Or a list of them, with `samples`.

        Raises
        ------
        ValueError
            If an option is out of its range or has no effect beside the others, `prime` has unknown
            characters and the vocabulary no number for them, `stop` has some that are never
            written, or the weights are not finite.
        """
        drawing = Drawing(temperature, top_k, top_p, repetition_penalty, repetition_window)
        network = self._network()
        if samples is None:
            return "".join(write_pieces(network, length, prime, seed, stop, drawing))
        return write_many(network, length, prime, seed, stop, drawing, samples)

    def sample_pieces(
        self,
        length: int,
        temperature: float = 1.0,
        prime: str = "",
        seed: int | None = None,
        *,
        stop: str | None = None,
        **drawing: Any,
    ) -> Iterator[str]:
        """Do the same as `sample` for one text, but give its pieces while it is written.

        The first piece is the prime; then up to 16 symbols are drawn at a time. With an alphabet of
        bytes a character comes with its last byte. `drawing` is `top_k`, `top_p`,
        `repetition_penalty` and `repetition_window`.

        Examples
        --------
        >>> import rnncore
        >>> from rnncore.data import Vocabulary
        >>> from rnncore.models import LanguageNetwork
        >>> model = LanguageNetwork(Vocabulary("abc"), hidden_size=4, seed=0)
        >>> len(list(model.sample_pieces(5, prime="ab", seed=0)))
        6
        """
        how = Drawing(temperature, **drawing)
        return write_pieces(self._network(), length, prime, seed, stop, how)


class Prime:
    """A text to go on from, as a language model reads it.

    Attributes
    ----------
    text : str
        What is written first.
    tokens : (T,) integers
        What is read of it. Where words carry the space before them, a last single space is not
        read: it belongs to the word that comes next.
    spaced : bool
        Whether there is such a space, so that the next word begins with it.
    left_out, left_out_first : integers
        The symbols that are not written: the unknown; as the first one all without a space, too.
    """

    def __init__(self, text: str, vocabulary: Vocabulary | TextWords) -> None:
        if not isinstance(text, str):
            raise TypeError(f"prime: expected a str, got {type(text).__name__}")
        if vocabulary.unit != "bytes":
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        self.text, self.spaced = text, False
        unknown = [] if vocabulary.unknown is None else [vocabulary.unknown]
        self.left_out = np.array(unknown, np.intp)
        self.left_out_first = self.left_out
        if isinstance(vocabulary, TextWords) and text.endswith(" ") and text[-2:] != "  ":
            begins = np.array([word.startswith(" ") for word in vocabulary.words])
            if begins.any():
                self.spaced = True
                self.left_out_first = np.append(np.flatnonzero(~begins), self.left_out)
        try:
            self.tokens = vocabulary.encode(text[:-1] if self.spaced else text)
        except ValueError as error:
            raise ValueError(f"prime {error}") from None
        if not self.tokens.size:
            self.tokens = line_end(vocabulary)

    def recent(self, window: int) -> NDArray[np.intp]:
        """Return its last symbols, so many at most."""
        read = self.tokens if self.text else self.tokens[:0]
        return read[max(0, len(read) - window) :].astype(np.intp)


class Scribe:
    """Turns numbers of symbols into text, up to a text that ends it.

    Attributes
    ----------
    may_end, ended : bool
        Whether there is such a text, and whether it has been written.
    """

    def __init__(self, vocabulary: Vocabulary | TextWords, prime: Prime, stop: str | None) -> None:
        self._vocabulary, self._stop, self._spaced = vocabulary, stop, prime.spaced
        self._is_bytes = isinstance(vocabulary, Vocabulary) and vocabulary.is_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # of bytes
        self._tail = ""  # of what is written, shorter than `stop`
        self.may_end, self.ended = stop is not None, False

    def piece(self, token: int) -> str:
        """Return what this symbol adds to the text."""
        vocabulary = self._vocabulary
        if isinstance(vocabulary, TextWords):
            piece = vocabulary.words[token][int(self._spaced) :]
            self._spaced = False
        elif self._is_bytes:
            piece = self._decoder.decode(bytes((int(vocabulary.symbols[token]),)))
        else:
            piece = chr(vocabulary.symbols[token])
        return piece if self._stop is None else self._cut(piece, self._stop)

    def _cut(self, piece: str, stop: str) -> str:
        text = self._tail + piece
        at = text.find(stop)
        if at >= 0:
            self.ended = True
            return text[len(self._tail) : at + len(stop)]
        self._tail = text[max(0, len(text) - len(stop) + 1) :]
        return piece

    def rest(self) -> str:
        """Return what is left at the end: bytes that are no whole character."""
        return "" if self.ended else self._decoder.decode(b"", final=True)


def write_pieces(
    network: LanguageNetwork, length: int, prime: str, seed: Any, stop: str | None,
    drawing: Drawing,
) -> Iterator[str]:  # fmt: skip
    """Check the arguments and return the pieces; see `Writer.sample_pieces`."""
    length = check_size("length", length, 0)
    read = Prime(prime, network.vocabulary)
    scribe = Scribe(network.vocabulary, read, check_stop(stop, network.vocabulary))
    return _pieces(network, length, read, check_seed(seed), scribe, drawing)


def _pieces(
    network: LanguageNetwork, length: int, prime: Prime, generator: np.random.Generator,
    scribe: Scribe, drawing: Drawing,
) -> Iterator[str]:  # fmt: skip
    if prime.text:
        yield prime.text
    stream, window = network.stream(), drawing.window
    read = prime.tokens[:-1]
    for k in range(0, len(read), READ_AT_ONCE):
        stream.process(read[k : k + READ_AT_ONCE])
    drawer = drawing.drawer(len(network.vocabulary), network.dtype)
    history = prime.tokens.astype(np.intp)
    begin = 0 if prime.text else len(history)  # of what counts as repeated
    left_out, left = prime.left_out_first, length
    while left:
        many = min(left, AT_ONCE) if left < length else 1
        known = len(history)
        history = np.append(history, np.zeros(many, np.intp))
        state = generator.bit_generator.state if scribe.may_end else {}
        uniforms = generator.random(many) if drawing.temperature else np.zeros(many)
        done = drawer.write(stream, history, known, begin, window, uniforms, left_out)
        for written, token in enumerate(history[known : known + done].tolist(), 1):
            piece = scribe.piece(token)
            if scribe.ended and drawing.temperature:  # as if no more had been drawn
                generator.bit_generator.state = state
                generator.random(written)
            yield piece
            if scribe.ended:
                return
        check_predicted(done == many)
        left, left_out = left - many, prime.left_out
        past = max(0, len(history) - max(1, window))
        history, begin = history[past:], max(0, begin - past)
    if rest := scribe.rest():
        yield rest


def write_many(
    network: LanguageNetwork, length: int, prime: str, seed: int | None, stop: str | None,
    drawing: Drawing, samples: int,
) -> list[str]:  # fmt: skip
    """Write several texts at once; see `Writer.sample`."""
    length, samples = check_size("length", length, 0), check_size("samples", samples)
    vocabulary = network.vocabulary
    read, stop = Prime(prime, vocabulary), check_stop(stop, vocabulary)
    if samples > 1 and drawing.temperature == 0:
        raise ValueError(
            "samples: expected 1 with temperature 0, which writes the same text each time, got "
            f"{samples}; give a temperature"
        )
    first = fresh_seed() if seed is None else check_size("seed", seed, 0)
    generators = [check_seed(first + k) for k in range(samples)]
    scribes = [Scribe(vocabulary, read, stop) for _ in generators]
    texts = [[read.text] for _ in generators]
    window, drawer = drawing.window, drawing.drawer(len(vocabulary), network.dtype)
    writing = np.arange(samples)  # those that have not ended
    recent = np.tile(read.recent(window), (samples, 1))
    left_out, batch = read.left_out_first, network.streams()
    reader = batch.join()
    for token in read.tokens:
        logits = batch.step([token], [reader])
    logits = np.repeat(logits, samples, axis=0)
    for _ in generators[1:]:  # all have read the prime
        batch.set_state(batch.join(), batch.get_state(reader))
    for left in range(length, 0, -1):
        uniforms = np.array([generators[k].random() for k in writing])
        chosen = drawer.choose(logits, uniforms, recent, left_out)
        check_predicted(chosen.min() >= 0)
        left_out = read.left_out
        if window:
            recent = np.concatenate([recent, chosen[:, None]], 1)[:, -window:].copy()
        for k, token in zip(writing, chosen.tolist(), strict=True):
            texts[k].append(scribes[k].piece(token))
        going = np.array([not scribes[k].ended for k in writing])
        if not going.all():
            writing, chosen, recent = writing[going], chosen[going], recent[going]
        if left == 1 or not writing.size:
            break
        logits = batch.step(chosen, writing.tolist())
    return ["".join([*text, scribe.rest()]) for text, scribe in zip(texts, scribes, strict=True)]


def fresh_seed() -> int:
    """Return a seed that nobody has chosen."""
    return int(np.random.default_rng().integers(1 << 31))


def check_stop(stop: Any, vocabulary: Vocabulary | TextWords) -> str | None:
    """Return a text that ends samples, which the model has to be able to write."""
    if stop is None:
        return None
    if not isinstance(stop, str):
        raise TypeError(f"stop: expected a str, got {type(stop).__name__}")
    if not stop:
        raise ValueError("stop: expected a text, got an empty one; leave it out to have no end")
    if isinstance(vocabulary, TextWords):
        written = set("".join(vocabulary.words))
        strange = [letter for letter in stop if letter not in written]
    else:
        known = set(vocabulary.symbols.tolist())
        codes = as_bytes if vocabulary.is_bytes else lambda letter: (ord(letter),)
        strange = [letter for letter in stop if not known.issuperset(codes(letter))]
    if strange:
        raise ValueError(
            f"stop: expected what the model can write, got {stop!r} with {strange[0]!r}, which it "
            "has never seen; leave it out, or give another text"
        )
    return stop


def line_end(vocabulary: Vocabulary | TextWords) -> NDArray[np.integer]:
    """Return what a model has read before the beginning of a text: a line end, if it knows one."""
    try:
        return vocabulary.encode("\n")
    except ValueError:
        return np.zeros(1, dtype=np.int32)
