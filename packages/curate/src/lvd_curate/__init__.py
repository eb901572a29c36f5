"""Curate an image pool without labels or text: the data pipeline of DINOv2, and each of its steps alone.

>>> from lvd_curate import DedupRecipe, dedup
>>> dedup(DedupRecipe(pool={"photos": "photos"}), Path("copies.parquet"))
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lvd_curate.audit import audit_dataset as audit_dataset
    from lvd_curate.calibration import calibrate_pool as calibrate_pool
    from lvd_curate.config import build_config as build_config
    from lvd_curate.doors import balance as balance
    from lvd_curate.doors import dedup as dedup
    from lvd_curate.doors import embed as embed
    from lvd_curate.doors import retrieve as retrieve
    from lvd_curate.errors import InputError as InputError
    from lvd_curate.pipeline import build_lvd as build_lvd
    from lvd_curate.plan import plan_build as plan_build
    from lvd_curate.recipes import AuditRecipe as AuditRecipe
    from lvd_curate.recipes import BalanceRecipe as BalanceRecipe
    from lvd_curate.recipes import BuildConfig as BuildConfig
    from lvd_curate.recipes import DedupRecipe as DedupRecipe
    from lvd_curate.recipes import EmbedRecipe as EmbedRecipe
    from lvd_curate.recipes import RetrieveRecipe as RetrieveRecipe
    from lvd_curate.reporting.explain import explain_image as explain_image

__version__ = "0.1.0"

PLACES = {  # of what is imported when it is first asked for: `curate --help` waits for none of it
    "audit": ("audit_dataset",),
    "calibration": ("calibrate_pool",),
    "config": ("build_config",),
    "doors": ("balance", "dedup", "embed", "retrieve"),
    "errors": ("InputError",),
    "reporting.explain": ("explain_image",),
    "pipeline": ("build_lvd",),
    "plan": ("plan_build",),
    "recipes": ("AuditRecipe", "BalanceRecipe", "BuildConfig", "DedupRecipe", "EmbedRecipe", "RetrieveRecipe"),
}


def __getattr__(name: str) -> Any:
    """Import a public name from the module that holds it."""
    from importlib import import_module

    for module, names in PLACES.items():
        if name in names:
            return getattr(import_module(f"lvd_curate.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
