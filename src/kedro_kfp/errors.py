"""Every error the translator raises on purpose.

    KedroKfpError
    ├── SettingsError        kubeflow.yml cannot be used
    ├── PlanError            the pipeline, as it is, cannot run in pods
    ├── MissingPackageError  a package of the extra is not installed
    ├── CompiledFileError    a compiled file that Kubeflow would not take
    ├── ParametersError      --params is no JSON object
    ├── StepError            a step's own command line cannot be carried out
    ├── WorkError            a node, or a hook of the run, failed
    ├── HandOverError        the nodes ran, and a result could not be given to Kubeflow
    └── RunError             a run that failed, or that nobody could start
        ├── UnansweredError  a request that may be answered later
        └── LostSightError   a run that goes on unseen

Messages name the field, node or dataset, the value, what is allowed, and the next step.
"""

from collections.abc import Sequence


class KedroKfpError(Exception):
    """Root of the tree: `except KedroKfpError` catches refusals, and no programming error."""

    exit_code = 1
    """Of the command that ends with it."""


class SettingsError(KedroKfpError, ValueError):
    """A value of kubeflow.yml that cannot be used."""


class PlanError(KedroKfpError):
    """All reasons for which a pipeline cannot run in pods, one a line."""

    def __init__(self, pipeline: str, refusals: Sequence[str]) -> None:
        self.refusals = tuple(refusals)
        listed = "\n".join(f"  {number}. {refusal}" for number, refusal in enumerate(self.refusals, start=1))
        super().__init__(f"pipeline {pipeline!r} cannot run on Kubeflow as it is:\n{listed}")


class MissingPackageError(KedroKfpError):
    """A package that only some commands need."""

    def __init__(self, package: str, purpose: str) -> None:
        super().__init__(
            f"{package} is not installed, and {purpose} needs it. "
            f"Next: pip install {package}, or install the project with its extra [kubeflow]."
        )


class CompiledFileError(KedroKfpError):
    """All defects of a compiled file, one a line."""

    def __init__(self, file: str, defects: Sequence[str]) -> None:
        self.defects = tuple(defects)
        listed = "\n".join(f"  {number}. {defect}" for number, defect in enumerate(self.defects, start=1))
        super().__init__(f"{file} is not a pipeline that Kubeflow would run:\n{listed}\nNext: compile it again.")


class ParametersError(KedroKfpError, ValueError):
    """Parameters that are no JSON object, and no file that holds one."""


class StepError(KedroKfpError):
    """A step's command line that cannot be carried out, however often it is tried."""


class WorkError(KedroKfpError):
    """What a node raised, or a hook before the first or after the last one; another attempt may succeed."""

    def __init__(self, where: str, why: str, node: str | None = None) -> None:
        self.node = node
        super().__init__(f"{where}: {why}")


class HandOverError(KedroKfpError):
    """A result that Kubeflow cannot take in the form it has."""


class RunError(KedroKfpError):
    """A run that failed, or a request that the cluster refused."""


class UnansweredError(RunError):
    """A request that the network or the API lost, and that may be answered a while later."""


class LostSightError(RunError):
    """A run that goes on, and that nobody watches any more."""

    exit_code = 3
