"""Records that are copied and become gzip when they are sent: what comes of them is what the encoder makes at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drain.otlp import copied_batch, gzip_writers
from drain.otlp.copied_batch import CopiedBatch
from drain.otlp.copied_records import CopiedRecords
from drain.otlp.direct_gzip import DirectGzip
from drain.otlp.encoder import Encoder
from drain.otlp.gzip_members import gunzip
from drain.otlp.gzip_writers import GzipWriters
from drain.otlp.request import Request
from ringbuf.exceptions import RingBufferError
from ringbuf.layout.layout import Attribute, SpanLayout
from tests.property.strategies import ALL_TYPES, any_records_for, layouts, records_for

if TYPE_CHECKING:
    import numpy as np

TEXT = ("str", "bytes", "otlp", "scope")
WITHOUT_TEXT = tuple(kind for kind in ALL_TYPES if kind not in TEXT)
thresholds = st.sampled_from([0, 1, 1 + (1 << 55)])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)  # lengths of one byte and of two


@st.composite
def rings(draw: st.DrawFn, max_size: int = 200) -> tuple[Encoder, np.ndarray]:
    layout = draw(layouts(types=WITHOUT_TEXT, max_size=max_size))
    records = draw(records_for(layout, max_size=12) | any_records_for(layout, max_size=12))
    return Encoder(layout, {"service.name": draw(texts)}, draw(thresholds)), records


@given(rings())
def test_records_are_measured_as_they_are_encoded(ring: tuple[Encoder, np.ndarray]) -> None:
    encoder, records = ring
    body, spans, invalid = encoder.encode(records)
    assert encoder.measure(records) == (len(body), spans, invalid)


@pytest.mark.skipif(not DirectGzip.is_supported(), reason="this processor has no carry-less product")
@given(st.lists(rings(max_size=24), min_size=1, max_size=4))
def test_a_request_of_records_is_the_one_that_was_encoded_at_once(of_rings: list[tuple[Encoder, np.ndarray]]) -> None:
    body = b"".join(encoder.encode(records).body for encoder, records in of_rings)

    def request() -> Request:
        copied = [CopiedRecords(encoder, records) for encoder, records in of_rings]
        return Request.of_records(CopiedBatch(copied), sum(part.spans for part in copied))

    assert request().body_bytes == len(body)
    assert request().body == body
    with pytest.MonkeyPatch.context() as patch:
        writers = GzipWriters()
        patch.setattr(copied_batch, "WRITERS", writers)
        patch.setattr(gzip_writers, "_FEWEST", 0)
        patch.setattr(gzip_writers, "_FEWEST_OF_RING", 0)
        assert all(writers.takes(encoder) for encoder, _ in of_rings)
        sent = request()
        assert gunzip(sent.gzip()) == body
        assert sent.gzip_from == "records"
        assert sent == request() == Request(body, sent.spans, "protobuf")
        assert writers.mistrusted == 0


@pytest.mark.parametrize("kind", TEXT)
def test_records_with_text_are_not_measured(kind: Any) -> None:
    layout = SpanLayout(span_names=["a"], attributes=[Attribute("on", "bool"), Attribute("text", kind, 25)])
    with pytest.raises(RingBufferError, match="cannot be measured"):
        Encoder(layout, {}).measure(layout.empty(1))
