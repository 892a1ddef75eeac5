"""Price files (`topologies/prices`): what things cost around a cluster. Each file is one section, told by `kind`.

A price per something is written as the price of one of it: `electricity_kwh: 0.067 USD` is the price of one kWh,
`datacenter_watt: 10 USD` that of one watt of capacity.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import Field

from dcsim.spec.document import Figure, Path_
from dcsim.spec.section import Area, Energy, Fraction, Length, Money, Named, Time

Usd = Annotated[Money, Field(ge=0)]


class TcoPrices(Named):
    """Owning servers in a datacenter: the constants of the Chiplet Cloud cost model, and small parts."""

    kind: Literal["tco"]
    electricity_kwh_usd: Usd = Field(description="One kWh at the wall.")
    interest_fraction: Fraction = Field(description="Interest a year on what is borrowed, paid back monthly.")
    datacenter_watt_usd: Usd = Field(description="Building a datacenter, for each watt of server power.")
    datacenter_life_s: Time = Field(gt=0, description="Time over which the building is paid off.")
    datacenter_watt_month_usd: Usd = Field(description="Running the datacenter for a month, for each watt of server power.")
    pue: float = Field(ge=1, description="Site power over server power, where no run says it.")
    server_life_s: Time = Field(gt=0, description="Time over which a server is paid off and used.")
    server_upkeep_fraction: float = Field(ge=0, description="Upkeep over a server's life, as a share of its price; paid once.")
    average_power_fraction: float = Field(ge=0, description="Mean server power over peak power, where no run says it.")
    rack_usd: Usd = Field(default=0.0, description="One empty rack with its power distribution.")
    cable_usd: Usd = Field(default=0.0, description="One cable from chip to chip.")
    adapter_usd: Usd = Field(default=0.0, description="One network adapter.")


class SiliconPrices(Named):
    """Making a card: wafer, defects, test, package and board of one process."""

    kind: Literal["silicon"]
    wafer_usd: Usd = Field(description="One processed wafer.")
    wafer_diameter_m: Length = Field(gt=0, description="Diameter of the wafer.")
    area_per_defect_mm2: Area = Field(gt=0, description="Area that holds one defect on average: 1 / D0.")
    clustering: float = Field(gt=0, description="Alpha of the negative binomial yield: small where defects cluster.")
    test_fraction: float = Field(ge=0, description="Test, as a share of a good die's cost.")
    substrate_mm2_usd: Usd = Field(description="One mm2 of package substrate.")
    substrate_area_ratio: float = Field(ge=1, description="Substrate area over die area.")
    bonding_yield_fraction: float = Field(gt=0, le=1, description="Share of dies that survive packaging.")
    board_usd: Usd = Field(description="Board around the package: regulators, connectors, cooling, assembly.")


class RentPrices(Named):
    """Renting chips by the hour, host, power and building included."""

    kind: Literal["rent"]
    chip_hour_usd: Usd = Field(description="One chip for one hour.")


class EnergyFigures(Named):
    """Switching energy of the things a token needs, from the bottom up."""

    kind: Literal["energy"]
    sram_byte_j: Energy = Field(ge=0, description="One byte read from large on-chip SRAM.")
    hbm_byte_j: Energy = Field(ge=0, description="One byte read from HBM.")
    dram_byte_j: Energy = Field(ge=0, description="One byte read from DRAM on the board.")
    fma_j: Energy = Field(ge=0, description="One 16-bit fused multiply-add.")
    link_byte_j: Energy = Field(ge=0, description="One byte over one link between chips.")


Prices = TypeVar("Prices", bound=Named)  # one of the four sections above


def read_prices(name: str, section: type[Prices]) -> tuple[Prices, dict[Path_, Figure]]:
    """The price file `name` (a path, or a bare name in `topologies/prices`) and where its figures come from.

    The figures stand under `("price", key)`, so that they can join those of a resolved spec. Raises SpecError with
    all problems, a file of another kind among them.
    """
    from dcsim.spec.load import load_entry  # which knows this file's sections, as parts of a topology

    prices, figures = load_entry(name, "topologies/prices", section)
    return prices, {("price", *key): figure for key, figure in figures.items()}
