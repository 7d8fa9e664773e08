"""The pictures of a lecture, a slide a file; `rnncore story` draws them all."""
