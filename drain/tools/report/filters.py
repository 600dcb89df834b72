"""The filters of a page: what the script can hide, and by what.

Without the script the bar is hidden and everything else is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drain.tools.report.html import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drain.tools.report.statistics import Group, Statistics
    from drain.tools.report.traces import Trace


class Filters:
    """Numbers the names and services, so that no text of a span is needed twice.

    Args:
        statistics: whose names and services there are.
    """

    def __init__(self, statistics: Statistics) -> None:
        self._names = {name: index for index, name in enumerate(dict.fromkeys(g.name for g in statistics.groups))}
        self._services = {name: index for index, name in enumerate(statistics.service_names)}

    def bar(self) -> str:
        """Return the controls, which the script shows."""
        return (
            '<form id="filters" hidden aria-label="Filters">'
            f'<label>Span name <select id="f-name">{_options(self._names)}</select></label>'
            f'<label>Service <select id="f-service">{_options(self._services)}</select></label>'
            '<label>Text <input id="f-text" type="search" size="12" autocomplete="off"></label>'
            '<label class="check"><input id="f-errors" type="checkbox"> with errors only</label>'
            '<button type="reset">Clear</button><output id="f-count" aria-live="polite"></output></form>'
        )

    def of_groups(self, groups: Iterable[Group], errors: int | None = None) -> str:
        """Return the attributes of an element that is about some groups.

        Args:
            groups: these.
            errors: how many errors the element is about; theirs if None.
        """
        all_groups = list(groups)
        services = sorted({service for group in all_groups for service in group.services})
        count = sum(group.errors for group in all_groups) if errors is None else errors
        return self._data({self._names[group.name] for group in all_groups}, services, count)

    def of_trace(self, trace: Trace) -> str:
        """Return the attributes of a trace's element; names beyond what the page tells apart match none."""
        spans = [row.span for row in trace.rows]
        names = {self._names[span.name] for span in spans if span.name in self._names}
        services = sorted({self._services[span.service] for span in spans if span.service in self._services})
        return self._data(names, services, sum(span.is_error for span in spans))

    @staticmethod
    def _data(names: Iterable[int], services: Iterable[int], errors: int) -> str:
        name_list, service_list = (" ".join(map(str, sorted(numbers))) for numbers in (names, services))
        return f'data-n=" {name_list} " data-s=" {service_list} " data-e="{errors}"'


def _options(names: dict[str, int]) -> str:
    found = "".join(f'<option value="{index}">{shown(name)}</option>' for name, index in names.items())
    return f'<option value="">all</option>{found}'
