"""How the first messages are coded: who speaks, what network is sent, on what terms."""

from __future__ import annotations

import numpy as np

from labctl.parties.fields import Fields, members, name_of
from labctl.parties.schema import session_pb2 as schema
from labctl.protocols.carried import Inputs
from labctl.protocols.disguise import Disguise
from labctl.protocols.encoding import MOST_PHOTONS
from labctl.protocols.leakage import Assumptions, LayerShape, Trust
from labctl.protocols.messages import Hello, ReceiverFacts, Welcome
from labctl.protocols.settings import MOST_SAMPLES, Sampling, VerificationSettings
from labctl.protocols.terms import MOST_NAME, MOST_QUERIES, Terms

# Layers of a network in one session.
MOST_LAYERS = 64
# Versions of the messages that one side may speak.
MOST_VERSIONS = 16
# Rows, modes or values of one layer: a row of this many modes lasts 10 ms at 100 MHz.
MOST_SIZE = 2**20
# Of a gain or a noise: beyond any amplifier.
MOST_RATIO = 1e9
_MOST_VERSION = 2**31 - 1
_SHA256_BYTES = 32

_TRUST = members(Trust, schema.Trust)
_SAMPLING = members(Sampling, schema.Sampling)


def put_hello(hello: Hello) -> schema.Hello:
    """Return its form of the schema."""
    facts = hello.receiver
    return schema.Hello(
        versions=hello.versions,
        frame_sha256=bytes.fromhex(hello.frame_sha256) if hello.frame_sha256 else None,
        receiver=None if facts is None else _put_receiver(facts),
    )


def take_hello(fields: Fields) -> Hello:
    """Read its form; raises ProtocolError."""
    frame = ""
    if fields.has("frame_sha256"):
        frame = fields.octets("frame_sha256", _SHA256_BYTES, _SHA256_BYTES).hex()
    return Hello(
        fields.integers("versions", 1, _MOST_VERSION, most_items=MOST_VERSIONS),
        _take_receiver(fields.part("receiver")) if fields.has("receiver") else None,
        frame,
    )


def _put_receiver(facts: ReceiverFacts) -> schema.ReceiverFacts:
    return schema.ReceiverFacts(
        block_modes=facts.block_modes,
        turns=facts.turns,
        emission_factor=facts.emission_factor,
        efficiency=facts.efficiency,
        electronic_noise=facts.electronic_noise,
        rotation_loss_db_per_mode=facts.rotation_loss_db_per_mode,
        rotation_error_rad=facts.rotation_error_rad,
    )


def _take_receiver(fields: Fields) -> ReceiverFacts:
    return ReceiverFacts(
        fields.integer("block_modes", 1, MOST_SIZE) if fields.has("block_modes") else None,
        fields.integer("turns", 1, MOST_SIZE),
        fields.real("emission_factor", 1.0, MOST_RATIO),
        fields.real("efficiency", 0.0, 1.0),
        fields.real("electronic_noise", 0.0, MOST_RATIO),
        fields.real("rotation_loss_db_per_mode", 0.0, MOST_RATIO),
        fields.real("rotation_error_rad", 0.0, MOST_RATIO),
    )


def put_welcome(welcome: Welcome) -> schema.Welcome:
    """Return its form of the schema."""
    return schema.Welcome(
        version=welcome.version,
        sizes=welcome.sizes,
        inputs=schema.Inputs(width=welcome.inputs.width, fed=_bits(welcome.inputs)),
        shapes=[
            schema.LayerShape(
                rows=shape.rows,
                modes=shape.modes,
                inputs=shape.inputs,
                block_modes=shape.block_modes,
                clones=shape.clones,
            )
            for shape in welcome.shapes
        ],
        signed=welcome.signed,
        mean_photons=welcome.mean_photons,
        gain=welcome.gain,
        terms=None if welcome.terms is None else _put_terms(welcome.terms),
    )


def take_welcome(fields: Fields) -> Welcome:
    """Read its form; raises ProtocolError."""
    return Welcome(
        fields.integer("version", 1, _MOST_VERSION),
        fields.integers("sizes", 1, MOST_SIZE, most_items=MOST_LAYERS + 1),
        _take_inputs(fields.part("inputs")),
        tuple(map(_take_shape, fields.parts("shapes", most_items=MOST_LAYERS))),
        fields.flag("signed"),
        fields.real("mean_photons", np.finfo(float).tiny, MOST_PHOTONS),
        fields.real("gain", 1.0, MOST_RATIO) if fields.has("gain") else None,
        _take_terms(fields.part("terms")) if fields.has("terms") else None,
    )


def _bits(inputs: Inputs) -> bytes | None:
    if inputs.fed is None:
        return None
    fed = np.zeros(inputs.width, bool)
    fed[inputs.fed] = True
    return np.packbits(fed, bitorder="little").tobytes()


def _take_inputs(fields: Fields) -> Inputs:
    width = fields.integer("width", 1, MOST_SIZE)
    if not fields.has("fed"):
        return Inputs(width)
    length = -(-width // 8)
    packed = np.frombuffer(fields.octets("fed", length, length), np.uint8)
    # Indices, not a truth value for each bit: at most eight times the bytes of the message.
    fed = np.flatnonzero(np.unpackbits(packed, bitorder="little"))
    if len(fed) == 0 or fed[-1] >= width or len(fed) == width:
        valid = f"some of {width} values, not none of them and not all"
        raise fields.refused("fed", f"{len(fed)} values", valid)
    return Inputs(width, fed)


def _take_shape(fields: Fields) -> LayerShape:
    modes = fields.integer("modes", 1, MOST_SIZE)
    block = fields.integer("block_modes", 1, MOST_SIZE) if fields.has("block_modes") else None
    return LayerShape(
        fields.integer("rows", 1, MOST_SIZE),
        modes,
        fields.integer("inputs", 1, 2 * modes),
        block,
        fields.integer("clones", 1, MOST_SIZE),
    )


def _put_terms(terms: Terms) -> schema.Terms:
    how = terms.verification
    return schema.Terms(
        model=terms.model,
        model_sha256=bytes.fromhex(terms.model_sha256),
        signal_to_noise=terms.signal_to_noise,
        fresh_order=terms.disguise.permute,
        fresh_signs=terms.disguise.signs,
        sampling=name_of(terms.sampling, schema.Sampling),
        verification=schema.VerificationSettings(
            failure_probability=how.failure_probability,
            false_alarm_probability=how.false_alarm_probability,
            calibration_samples=how.calibration_samples,
            weights_bits_limit=how.weights_bits_limit,
            monitor_samples=how.monitor_samples,
        ),
        loss=name_of(terms.assumptions.loss, schema.Trust),
        technical_noise=name_of(terms.assumptions.technical_noise, schema.Trust),
        queries_left=terms.queries_left,
        bits_per_weight_left=terms.bits_per_weight_left,
        deadline_s=terms.deadline_s,
        batch_queries=terms.batch_queries,
    )


def _take_terms(fields: Fields) -> Terms:
    queries, bits = "queries_left", "bits_per_weight_left"
    return Terms(
        model=fields.text("model", MOST_NAME),
        model_sha256=fields.octets("model_sha256", _SHA256_BYTES, _SHA256_BYTES).hex(),
        signal_to_noise=fields.real("signal_to_noise"),
        disguise=Disguise(fields.flag("fresh_order"), fields.flag("fresh_signs")),
        sampling=fields.choice("sampling", _SAMPLING),
        verification=_take_verification(fields.part("verification")),
        assumptions=Assumptions(
            fields.choice("loss", _TRUST), fields.choice("technical_noise", _TRUST)
        ),
        queries_left=fields.integer(queries, 0, MOST_SAMPLES) if fields.has(queries) else None,
        bits_per_weight_left=fields.real(bits) if fields.has(bits) else None,
        deadline_s=fields.real("deadline_s"),
        batch_queries=fields.integer("batch_queries", 1, MOST_QUERIES),
    )


def _take_verification(fields: Fields) -> VerificationSettings:
    limit = "weights_bits_limit"
    return VerificationSettings(
        failure_probability=fields.real("failure_probability"),
        false_alarm_probability=fields.real("false_alarm_probability"),
        calibration_samples=fields.integer("calibration_samples", 2, MOST_SAMPLES),
        weights_bits_limit=fields.real(limit) if fields.has(limit) else None,
        monitor_samples=fields.integer("monitor_samples", 0, MOST_SAMPLES),
    )
