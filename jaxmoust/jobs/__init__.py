"""The jobs behind the verbs: one configuration in, one folder with a result out."""

from jaxmoust.jobs.classifiers import CLASSIFIER_SECTIONS, EVALUATE_SECTIONS, SCORE_SECTIONS
from jaxmoust.jobs.clip_scores import CLIP_SCORE_SECTIONS
from jaxmoust.jobs.domain import DOMAIN_SECTIONS
from jaxmoust.jobs.external import MERGE_SECTIONS, TEXT_TO_IMAGE_SECTIONS
from jaxmoust.jobs.generators import (
    GENERATOR_SECTIONS,
    IMPORT_SECTIONS,
    SAMPLE_SECTIONS,
    load_generator,
)
from jaxmoust.jobs.job import AUTOENCODE_SECTIONS, FINETUNE_SECTIONS, BadInput, run
from jaxmoust.jobs.measure import MEASURE_SECTIONS
from jaxmoust.jobs.studies import JOBS, index_studies, study

__all__ = [
    "AUTOENCODE_SECTIONS",
    "CLASSIFIER_SECTIONS",
    "CLIP_SCORE_SECTIONS",
    "DOMAIN_SECTIONS",
    "EVALUATE_SECTIONS",
    "FINETUNE_SECTIONS",
    "GENERATOR_SECTIONS",
    "IMPORT_SECTIONS",
    "JOBS",
    "MEASURE_SECTIONS",
    "MERGE_SECTIONS",
    "SAMPLE_SECTIONS",
    "SCORE_SECTIONS",
    "TEXT_TO_IMAGE_SECTIONS",
    "BadInput",
    "index_studies",
    "load_generator",
    "run",
    "study",
]
