"""What is known of a station's hardware: measured values over the nominal ones of its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pydantic import ValidationError

from labctl.calibration.names import Name, Party, constant
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import Record, first_complaint
from labctl.errors import CalibrationError
from labctl.station.equipment import Equipment
from labctl.station.file import ClientConstants, ServerConstants

Constants = TypeVar("Constants", ServerConstants, ClientConstants)


@dataclass(frozen=True)
class Knowledge:
    """Quantities by name, and the ids of the records that they come from by routine.

    `doubts`: what is not applicable, by routine, and why; a result that rests on it says so.
    `foundations`: by routine, the ids of the records by routine that its own record rests on.
    """

    quantities: Mapping[Name, Quantity] = field(default_factory=dict)
    records: Mapping[str, str] = field(default_factory=dict)
    doubts: Mapping[str, str] = field(default_factory=dict)
    foundations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def with_record(self, record: Record) -> Knowledge:
        """Return the knowledge with one more record, which overrides what it names."""
        found = {Name(name): row.quantity() for name, row in record.quantities.items()}
        doubts = {name: why for name, why in self.doubts.items() if name != record.routine}
        return Knowledge(
            {**self.quantities, **found},
            {**self.records, record.routine: record.id},
            doubts,
            {**self.foundations, record.routine: dict(record.used)},
        )

    def with_doubt(self, routine: str, why: str) -> Knowledge:
        """Return the knowledge with a doubt about a routine's record, or about its absence."""
        return replace(self, doubts={**self.doubts, routine: why})

    def quantity(self, name: Name) -> Quantity:
        """Return a measured quantity; raises CalibrationError if no record has it."""
        if name not in self.quantities:
            raise CalibrationError(f"{name} has not been measured: run the routine that finds it")
        return self.quantities[name]

    def known(self, name: Name, nominal: Quantity) -> Quantity:
        """Return a measured quantity, or the `nominal` one where no record has it."""
        return self.quantities.get(name, nominal)

    def applied(self, equipment: Equipment) -> Equipment:
        """Return the equipment with measured values instead of its nominal constants.

        Raises CalibrationError for a value that such a constant cannot have.
        """
        server, client = equipment.server, equipment.client
        here = replace(server, constants=self._updated("server", server.constants))
        if equipment.has_client:
            client = replace(client, constants=self._updated("client", client.constants))
        return replace(equipment, server=here, client=client)

    def _updated(self, party: Party, constants: Constants) -> Constants:
        measured = {field: constant(party, field) for field in type(constants).model_fields}
        found = {
            field: self.quantities[name].value
            for field, name in measured.items()
            if name in self.quantities
        }
        try:
            return type(constants).model_validate({**constants.model_dump(), **found})
        except ValidationError as error:
            name = measured[str(error.errors()[0]["loc"][0])]
            raise CalibrationError(
                f"{name} = {self.quantities[name]} cannot be right: {first_complaint(error)}"
            ) from error


NOTHING = Knowledge()
