"""Every error Imprint raises on purpose.

    ImprintError
    ├── SettingsError            a value in YAML or on the command line cannot be used
    │   └── MemoryConfigError    a memory config that no model could carry
    ├── CorpusError              the corpus cannot be read as what it was said to be
    ├── QuarantineLimitError     too large a share of a batch was quarantined
    ├── RowsLostError            rows in ≠ rows out + rows quarantined
    ├── NotEnoughDataError       too few users or rows for what was asked
    ├── TwoRunsError             another run is at the same work
    ├── TrialFailedError         a memory config without an objective value
    ├── TrainingDivergedError    weights that are no numbers
    ├── BaseModelError           a base model that cannot be loaded or has no known sites
    ├── BucketError              a place in a bucket that cannot be read or written
    ├── JudgeError               a judge's endpoint that does not answer, or answers something else
    └── StoreError               a memory store that cannot be used
        ├── UnfinishedStoreError     no manifest: the writer was killed, or is still at work
        ├── CorruptMemoryError       the bytes are not those that were written (sha256)
        ├── UnknownUserError         nobody of that id has a memory here
        └── IncompatibleBaseError    the memory was trained on another base model

Messages name the field, the value, what is allowed, and the next step.
"""


class ImprintError(Exception):
    """Root of the tree: `except ImprintError` catches what Imprint itself refuses, and no programming error."""


class SettingsError(ImprintError, ValueError):
    """A setting whose value cannot be used. A `ValueError`, so that pydantic reports it with the field's name."""


class MemoryConfigError(SettingsError):
    """A memory config outside the space, or one that the given base model or history cannot carry."""


class CorpusError(ImprintError):
    """The corpus is missing, empty, or not what `corpus.format` says."""


class QuarantineLimitError(ImprintError):
    """The quarantined share passed `validate.max_quarantined_share`."""


class RowsLostError(ImprintError):
    """Rows in differ from rows out plus rows quarantined: a defect of ours, never of the data."""


class NotEnoughDataError(ImprintError):
    """Fewer users or rows than a stage needs."""


class TwoRunsError(ImprintError):
    """Another run writes what this one writes."""


class TrialFailedError(ImprintError):
    """A memory config, tried by itself, that could not be trained or scored."""


class TrainingDivergedError(ImprintError):
    """A training whose weights are no numbers, which nothing can be made of."""


class BaseModelError(ImprintError):
    """A base model that cannot be loaded, or whose family has no site map."""


class BucketError(ImprintError):
    """A place in a bucket that cannot be named, reached, read or written."""


class JudgeError(ImprintError):
    """A judge's endpoint that does not answer, or not as an OpenAI-compatible one does."""


class StoreError(ImprintError):
    """A memory store that cannot be used."""


class UnfinishedStoreError(StoreError):
    """The store has no manifest, so it was never finished."""


class CorruptMemoryError(StoreError):
    """A memory whose bytes do not match their sha256."""


class UnknownUserError(StoreError):
    """A user without a memory. Never answered by the base model in silence, never by a neighbour's memory."""

    def __init__(self, user_id: str, where: str) -> None:
        self.user_id = user_id
        super().__init__(
            f"user {user_id!r} has no memory in {where}; allowed are the users of its index. "
            "Next: check the id (pseudonym or raw id of this corpus), or train a memory for the user first."
        )


class IncompatibleBaseError(StoreError):
    """A memory offered to a base model it was not trained on."""

    def __init__(self, trained_on: str, offered: str) -> None:
        super().__init__(
            f"the memory was trained on base model {trained_on}, and was offered to {offered}; a memory fits only its "
            "own base. Next: load the base with that fingerprint, or train the memories again on this one."
        )
