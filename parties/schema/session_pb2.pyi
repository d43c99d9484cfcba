from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Trust(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRUST_UNSPECIFIED: _ClassVar[Trust]
    TRUST_TRUSTED: _ClassVar[Trust]
    TRUST_UNTRUSTED: _ClassVar[Trust]

class Sampling(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SAMPLING_UNSPECIFIED: _ClassVar[Sampling]
    SAMPLING_MEASURED: _ClassVar[Sampling]
    SAMPLING_ALL: _ClassVar[Sampling]

class AlignmentPurpose(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ALIGNMENT_PURPOSE_UNSPECIFIED: _ClassVar[AlignmentPurpose]
    ALIGNMENT_PURPOSE_RANGE: _ClassVar[AlignmentPurpose]
    ALIGNMENT_PURPOSE_PHASE: _ClassVar[AlignmentPurpose]
    ALIGNMENT_PURPOSE_DARK: _ClassVar[AlignmentPurpose]
    ALIGNMENT_PURPOSE_CLOCK: _ClassVar[AlignmentPurpose]
    ALIGNMENT_PURPOSE_NOISE: _ClassVar[AlignmentPurpose]

class AbortCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ABORT_CODE_UNSPECIFIED: _ClassVar[AbortCode]
    ABORT_CODE_PEER_LOST: _ClassVar[AbortCode]
    ABORT_CODE_TIMEOUT: _ClassVar[AbortCode]
    ABORT_CODE_VERDICT_REJECTED: _ClassVar[AbortCode]
    ABORT_CODE_LIGHT_TOO_BRIGHT: _ClassVar[AbortCode]
    ABORT_CODE_BUDGET: _ClassVar[AbortCode]
    ABORT_CODE_CALIBRATION_EXPIRED: _ClassVar[AbortCode]
    ABORT_CODE_PROTOCOL: _ClassVar[AbortCode]
    ABORT_CODE_OPERATOR: _ClassVar[AbortCode]
    ABORT_CODE_SAFETY: _ClassVar[AbortCode]
    ABORT_CODE_MALFORMED: _ClassVar[AbortCode]
    ABORT_CODE_OVERSIZED: _ClassVar[AbortCode]
    ABORT_CODE_OTHER_SESSION: _ClassVar[AbortCode]
    ABORT_CODE_OLD_SEQUENCE: _ClassVar[AbortCode]
    ABORT_CODE_SKIPPED_SEQUENCE: _ClassVar[AbortCode]
    ABORT_CODE_OTHER_TRANSCRIPT: _ClassVar[AbortCode]
    ABORT_CODE_OUT_OF_TURN: _ClassVar[AbortCode]
    ABORT_CODE_OUT_OF_PLACE: _ClassVar[AbortCode]
    ABORT_CODE_SIGNATURE: _ClassVar[AbortCode]
    ABORT_CODE_CERTIFICATE: _ClassVar[AbortCode]
    ABORT_CODE_TOO_MANY: _ClassVar[AbortCode]
    ABORT_CODE_BATCH_TOO_LONG: _ClassVar[AbortCode]
TRUST_UNSPECIFIED: Trust
TRUST_TRUSTED: Trust
TRUST_UNTRUSTED: Trust
SAMPLING_UNSPECIFIED: Sampling
SAMPLING_MEASURED: Sampling
SAMPLING_ALL: Sampling
ALIGNMENT_PURPOSE_UNSPECIFIED: AlignmentPurpose
ALIGNMENT_PURPOSE_RANGE: AlignmentPurpose
ALIGNMENT_PURPOSE_PHASE: AlignmentPurpose
ALIGNMENT_PURPOSE_DARK: AlignmentPurpose
ALIGNMENT_PURPOSE_CLOCK: AlignmentPurpose
ALIGNMENT_PURPOSE_NOISE: AlignmentPurpose
ABORT_CODE_UNSPECIFIED: AbortCode
ABORT_CODE_PEER_LOST: AbortCode
ABORT_CODE_TIMEOUT: AbortCode
ABORT_CODE_VERDICT_REJECTED: AbortCode
ABORT_CODE_LIGHT_TOO_BRIGHT: AbortCode
ABORT_CODE_BUDGET: AbortCode
ABORT_CODE_CALIBRATION_EXPIRED: AbortCode
ABORT_CODE_PROTOCOL: AbortCode
ABORT_CODE_OPERATOR: AbortCode
ABORT_CODE_SAFETY: AbortCode
ABORT_CODE_MALFORMED: AbortCode
ABORT_CODE_OVERSIZED: AbortCode
ABORT_CODE_OTHER_SESSION: AbortCode
ABORT_CODE_OLD_SEQUENCE: AbortCode
ABORT_CODE_SKIPPED_SEQUENCE: AbortCode
ABORT_CODE_OTHER_TRANSCRIPT: AbortCode
ABORT_CODE_OUT_OF_TURN: AbortCode
ABORT_CODE_OUT_OF_PLACE: AbortCode
ABORT_CODE_SIGNATURE: AbortCode
ABORT_CODE_CERTIFICATE: AbortCode
ABORT_CODE_TOO_MANY: AbortCode
ABORT_CODE_BATCH_TOO_LONG: AbortCode

class Envelope(_message.Message):
    __slots__ = ("session", "sequence", "transcript", "body", "more", "nonce", "certificate", "signature")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TRANSCRIPT_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    sequence: int
    transcript: bytes
    body: bytes
    more: bool
    nonce: bytes
    certificate: bytes
    signature: bytes
    def __init__(self, session: _Optional[bytes] = ..., sequence: _Optional[int] = ..., transcript: _Optional[bytes] = ..., body: _Optional[bytes] = ..., more: _Optional[bool] = ..., nonce: _Optional[bytes] = ..., certificate: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Body(_message.Message):
    __slots__ = ("hello", "welcome", "queries", "layer_open", "armed", "taken", "done", "verdict", "close", "abort", "closed", "resume", "resumed", "ready", "align_open", "align_armed", "align_taken", "aligned", "queued", "realign")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    LAYER_OPEN_FIELD_NUMBER: _ClassVar[int]
    ARMED_FIELD_NUMBER: _ClassVar[int]
    TAKEN_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    ABORT_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    ALIGN_OPEN_FIELD_NUMBER: _ClassVar[int]
    ALIGN_ARMED_FIELD_NUMBER: _ClassVar[int]
    ALIGN_TAKEN_FIELD_NUMBER: _ClassVar[int]
    ALIGNED_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    REALIGN_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    welcome: Welcome
    queries: Queries
    layer_open: LayerOpen
    armed: Armed
    taken: Taken
    done: Done
    verdict: Verdict
    close: Close
    abort: Abort
    closed: Closed
    resume: Resume
    resumed: Resumed
    ready: Ready
    align_open: AlignOpen
    align_armed: AlignArmed
    align_taken: AlignTaken
    aligned: Aligned
    queued: Queued
    realign: Realign
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., queries: _Optional[_Union[Queries, _Mapping]] = ..., layer_open: _Optional[_Union[LayerOpen, _Mapping]] = ..., armed: _Optional[_Union[Armed, _Mapping]] = ..., taken: _Optional[_Union[Taken, _Mapping]] = ..., done: _Optional[_Union[Done, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ..., close: _Optional[_Union[Close, _Mapping]] = ..., abort: _Optional[_Union[Abort, _Mapping]] = ..., closed: _Optional[_Union[Closed, _Mapping]] = ..., resume: _Optional[_Union[Resume, _Mapping]] = ..., resumed: _Optional[_Union[Resumed, _Mapping]] = ..., ready: _Optional[_Union[Ready, _Mapping]] = ..., align_open: _Optional[_Union[AlignOpen, _Mapping]] = ..., align_armed: _Optional[_Union[AlignArmed, _Mapping]] = ..., align_taken: _Optional[_Union[AlignTaken, _Mapping]] = ..., aligned: _Optional[_Union[Aligned, _Mapping]] = ..., queued: _Optional[_Union[Queued, _Mapping]] = ..., realign: _Optional[_Union[Realign, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("versions", "frame_sha256", "receiver")
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    FRAME_SHA256_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedScalarFieldContainer[int]
    frame_sha256: bytes
    receiver: ReceiverFacts
    def __init__(self, versions: _Optional[_Iterable[int]] = ..., frame_sha256: _Optional[bytes] = ..., receiver: _Optional[_Union[ReceiverFacts, _Mapping]] = ...) -> None: ...

class ReceiverFacts(_message.Message):
    __slots__ = ("block_modes", "turns", "emission_factor", "efficiency", "electronic_noise", "rotation_loss_db_per_mode", "rotation_error_rad")
    BLOCK_MODES_FIELD_NUMBER: _ClassVar[int]
    TURNS_FIELD_NUMBER: _ClassVar[int]
    EMISSION_FACTOR_FIELD_NUMBER: _ClassVar[int]
    EFFICIENCY_FIELD_NUMBER: _ClassVar[int]
    ELECTRONIC_NOISE_FIELD_NUMBER: _ClassVar[int]
    ROTATION_LOSS_DB_PER_MODE_FIELD_NUMBER: _ClassVar[int]
    ROTATION_ERROR_RAD_FIELD_NUMBER: _ClassVar[int]
    block_modes: int
    turns: int
    emission_factor: float
    efficiency: float
    electronic_noise: float
    rotation_loss_db_per_mode: float
    rotation_error_rad: float
    def __init__(self, block_modes: _Optional[int] = ..., turns: _Optional[int] = ..., emission_factor: _Optional[float] = ..., efficiency: _Optional[float] = ..., electronic_noise: _Optional[float] = ..., rotation_loss_db_per_mode: _Optional[float] = ..., rotation_error_rad: _Optional[float] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("version", "sizes", "inputs", "shapes", "signed", "mean_photons", "gain", "terms")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    SHAPES_FIELD_NUMBER: _ClassVar[int]
    SIGNED_FIELD_NUMBER: _ClassVar[int]
    MEAN_PHOTONS_FIELD_NUMBER: _ClassVar[int]
    GAIN_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    version: int
    sizes: _containers.RepeatedScalarFieldContainer[int]
    inputs: Inputs
    shapes: _containers.RepeatedCompositeFieldContainer[LayerShape]
    signed: bool
    mean_photons: float
    gain: float
    terms: Terms
    def __init__(self, version: _Optional[int] = ..., sizes: _Optional[_Iterable[int]] = ..., inputs: _Optional[_Union[Inputs, _Mapping]] = ..., shapes: _Optional[_Iterable[_Union[LayerShape, _Mapping]]] = ..., signed: _Optional[bool] = ..., mean_photons: _Optional[float] = ..., gain: _Optional[float] = ..., terms: _Optional[_Union[Terms, _Mapping]] = ...) -> None: ...

class Inputs(_message.Message):
    __slots__ = ("width", "fed")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    FED_FIELD_NUMBER: _ClassVar[int]
    width: int
    fed: bytes
    def __init__(self, width: _Optional[int] = ..., fed: _Optional[bytes] = ...) -> None: ...

class LayerShape(_message.Message):
    __slots__ = ("rows", "modes", "inputs", "block_modes", "clones")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    MODES_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_MODES_FIELD_NUMBER: _ClassVar[int]
    CLONES_FIELD_NUMBER: _ClassVar[int]
    rows: int
    modes: int
    inputs: int
    block_modes: int
    clones: int
    def __init__(self, rows: _Optional[int] = ..., modes: _Optional[int] = ..., inputs: _Optional[int] = ..., block_modes: _Optional[int] = ..., clones: _Optional[int] = ...) -> None: ...

class Terms(_message.Message):
    __slots__ = ("model", "model_sha256", "signal_to_noise", "fresh_order", "fresh_signs", "sampling", "verification", "loss", "technical_noise", "queries_left", "bits_per_weight_left", "deadline_s", "batch_queries")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_SHA256_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_TO_NOISE_FIELD_NUMBER: _ClassVar[int]
    FRESH_ORDER_FIELD_NUMBER: _ClassVar[int]
    FRESH_SIGNS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    TECHNICAL_NOISE_FIELD_NUMBER: _ClassVar[int]
    QUERIES_LEFT_FIELD_NUMBER: _ClassVar[int]
    BITS_PER_WEIGHT_LEFT_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    BATCH_QUERIES_FIELD_NUMBER: _ClassVar[int]
    model: str
    model_sha256: bytes
    signal_to_noise: float
    fresh_order: bool
    fresh_signs: bool
    sampling: Sampling
    verification: VerificationSettings
    loss: Trust
    technical_noise: Trust
    queries_left: int
    bits_per_weight_left: float
    deadline_s: float
    batch_queries: int
    def __init__(self, model: _Optional[str] = ..., model_sha256: _Optional[bytes] = ..., signal_to_noise: _Optional[float] = ..., fresh_order: _Optional[bool] = ..., fresh_signs: _Optional[bool] = ..., sampling: _Optional[_Union[Sampling, str]] = ..., verification: _Optional[_Union[VerificationSettings, _Mapping]] = ..., loss: _Optional[_Union[Trust, str]] = ..., technical_noise: _Optional[_Union[Trust, str]] = ..., queries_left: _Optional[int] = ..., bits_per_weight_left: _Optional[float] = ..., deadline_s: _Optional[float] = ..., batch_queries: _Optional[int] = ...) -> None: ...

class VerificationSettings(_message.Message):
    __slots__ = ("failure_probability", "false_alarm_probability", "calibration_samples", "weights_bits_limit", "monitor_samples")
    FAILURE_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    FALSE_ALARM_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_BITS_LIMIT_FIELD_NUMBER: _ClassVar[int]
    MONITOR_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    failure_probability: float
    false_alarm_probability: float
    calibration_samples: int
    weights_bits_limit: float
    monitor_samples: int
    def __init__(self, failure_probability: _Optional[float] = ..., false_alarm_probability: _Optional[float] = ..., calibration_samples: _Optional[int] = ..., weights_bits_limit: _Optional[float] = ..., monitor_samples: _Optional[int] = ...) -> None: ...

class Ready(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Queued(_message.Message):
    __slots__ = ("ahead",)
    AHEAD_FIELD_NUMBER: _ClassVar[int]
    ahead: int
    def __init__(self, ahead: _Optional[int] = ...) -> None: ...

class Realign(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AlignmentFrame(_message.Message):
    __slots__ = ("purpose", "layer", "number", "count")
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    purpose: AlignmentPurpose
    layer: int
    number: int
    count: int
    def __init__(self, purpose: _Optional[_Union[AlignmentPurpose, str]] = ..., layer: _Optional[int] = ..., number: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class AlignOpen(_message.Message):
    __slots__ = ("frame",)
    FRAME_FIELD_NUMBER: _ClassVar[int]
    frame: AlignmentFrame
    def __init__(self, frame: _Optional[_Union[AlignmentFrame, _Mapping]] = ...) -> None: ...

class AlignArmed(_message.Message):
    __slots__ = ("frame",)
    FRAME_FIELD_NUMBER: _ClassVar[int]
    frame: AlignmentFrame
    def __init__(self, frame: _Optional[_Union[AlignmentFrame, _Mapping]] = ...) -> None: ...

class AlignTaken(_message.Message):
    __slots__ = ("frame", "enough")
    FRAME_FIELD_NUMBER: _ClassVar[int]
    ENOUGH_FIELD_NUMBER: _ClassVar[int]
    frame: AlignmentFrame
    enough: bool
    def __init__(self, frame: _Optional[_Union[AlignmentFrame, _Mapping]] = ..., enough: _Optional[bool] = ...) -> None: ...

class Aligned(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Queries(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    def __init__(self, count: _Optional[int] = ...) -> None: ...

class Frames(_message.Message):
    __slots__ = ("layer", "first", "count")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    layer: int
    first: int
    count: int
    def __init__(self, layer: _Optional[int] = ..., first: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class LayerOpen(_message.Message):
    __slots__ = ("frames",)
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    frames: Frames
    def __init__(self, frames: _Optional[_Union[Frames, _Mapping]] = ...) -> None: ...

class Armed(_message.Message):
    __slots__ = ("frames",)
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    frames: Frames
    def __init__(self, frames: _Optional[_Union[Frames, _Mapping]] = ...) -> None: ...

class Taken(_message.Message):
    __slots__ = ("frames",)
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    frames: Frames
    def __init__(self, frames: _Optional[_Union[Frames, _Mapping]] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    def __init__(self, count: _Optional[int] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("accepted", "reason", "transmittance_lower", "excess_noise_upper", "weights_bits_upper", "failure_probability")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TRANSMITTANCE_LOWER_FIELD_NUMBER: _ClassVar[int]
    EXCESS_NOISE_UPPER_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_BITS_UPPER_FIELD_NUMBER: _ClassVar[int]
    FAILURE_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    reason: str
    transmittance_lower: float
    excess_noise_upper: float
    weights_bits_upper: float
    failure_probability: float
    def __init__(self, accepted: _Optional[bool] = ..., reason: _Optional[str] = ..., transmittance_lower: _Optional[float] = ..., excess_noise_upper: _Optional[float] = ..., weights_bits_upper: _Optional[float] = ..., failure_probability: _Optional[float] = ...) -> None: ...

class Close(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Abort(_message.Message):
    __slots__ = ("code", "reason")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    code: AbortCode
    reason: str
    def __init__(self, code: _Optional[_Union[AbortCode, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class Closed(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Resume(_message.Message):
    __slots__ = ("committed",)
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    committed: int
    def __init__(self, committed: _Optional[int] = ...) -> None: ...

class Resumed(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
