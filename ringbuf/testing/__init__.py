"""For tests of programs that emit spans: an emitter in memory, whose spans come back as dicts.

    from ringbuf.testing import InMemoryEmitter

    with InMemoryEmitter(layout=layout) as emitter:
        serve(emitter)
        (span,) = emitter.finished_spans()
        assert span["attributes"] == {"kv.bytes": 512}

What InMemorySpanExporter is to the OpenTelemetry SDK. `ringbuf.testing.fixtures` has the same as a pytest fixture for
programs that use the shared emitter. The spans went through a real ring, and no drain.
"""

from ringbuf.testing.in_memory import FinishedSpan, InMemoryEmitter, SpanReader

__all__ = ["FinishedSpan", "InMemoryEmitter", "SpanReader"]
