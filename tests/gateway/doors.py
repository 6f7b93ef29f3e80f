"""An edge whose providers speak different APIs natively."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.gateway.conftest import Stack

from pilothouse.domain.table import ProviderEntry, Table


class ApiStack(Stack):
    """`plain` speaks chat alone; `fake`, `openai` and `claude` speak natively what their kinds do."""

    def table(self) -> Table:
        table = super().table()
        address = f"http://127.0.0.1:{self.provider.port}/v1"
        more = {
            "plain": ProviderEntry("plain", "local", address),
            "claude": ProviderEntry("claude", "anthropic", address, "env://KEY"),
        }
        return Table(table.revision, 1, table.entries, {}, dict(table.providers) | more, **self.more)


@pytest.fixture
async def apis(tmp_path: Path) -> AsyncIterator[ApiStack]:
    stack = ApiStack(tmp_path)
    await stack.start()
    yield stack
    await stack.close()
