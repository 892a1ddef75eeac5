"""What the tests of this room share: catalog entries without the spec loader, and rows of nodes."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter
from ruamel.yaml import YAML

from dcsim.spec.chip import ChipSpec, LpuChip
from dcsim.spec.llm import LlmSpec

ROOT = Path(__file__).parents[2]


class Catalog:
    """Entries of the library by name."""

    def llm(self, name: str, **changes: object) -> LlmSpec:
        data = YAML(typ="safe").load((ROOT / "workloads" / "llms" / f"{name}.yaml").read_text())
        return LlmSpec.model_validate({**data, **changes})

    def lpu(self, **changes: object) -> LpuChip:
        data = YAML(typ="safe").load((ROOT / "topologies" / "chips" / "lpu-v1.yaml").read_text())
        plain = {k: _plain(v) for k, v in data.items()}
        chip = TypeAdapter(ChipSpec).validate_python(plain)
        assert isinstance(chip, LpuChip)
        return chip.model_copy(update=changes)

    def nodes(self, chips: int, size: int = 8) -> list[list[int]]:
        return [list(range(i, min(i + size, chips))) for i in range(0, chips, size)]


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return value["value"] if "value" in value else {k: _plain(v) for k, v in value.items()}
    return value


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    return Catalog()
