"""Planted faults: plugins that each break one promise, to prove that the contract suite catches them.

Each is a sound plugin with a single fault. `FAULTS` names the rules that must fail on it; no other rule may.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.api import Component
from benchmark.testing import faults_attack as attacks
from benchmark.testing import faults_candidates as candidates
from benchmark.testing import faults_certifier as certifier
from benchmark.testing import faults_dataset as dataset
from benchmark.testing import faults_defense as defense
from benchmark.testing import faults_detector as detector
from benchmark.testing import faults_inference as inference
from benchmark.testing import faults_metric as metric
from benchmark.testing import faults_model as model
from benchmark.testing import faults_poison as poison
from benchmark.testing import faults_prepared as prepared
from benchmark.testing import faults_process as process
from benchmark.testing import faults_tasks as tasks
from benchmark.testing import faults_tracker as tracker
from benchmark.testing.faults_unpublished import NamesNoPaper

__all__ = ["FAULTS", "SOUND", "Fault"]


@dataclass(frozen=True)
class Fault:
    """A faulty plugin of a kind, and the rules that catch it."""

    kind: str
    plugin: Component
    caught_by: frozenset[str]

    def __str__(self) -> str:
        return f"{self.kind}-{type(self.plugin).__name__}"


SOUND: tuple[tuple[str, Component], ...] = (
    ("attack", attacks.SoundAttack()),
    ("attack", prepared.SoundPrepared()),
    ("attack", tasks.SoundOnTasks()),
    ("dataset", dataset.SoundDataset()),
    ("model", model.SoundModel()),
    ("model", tasks.SoundSegmenter()),
    ("defense", defense.SoundDefense()),
    ("defense", inference.SoundStage()),
    ("defense", detector.SoundDetector()),
    ("poison", poison.SoundPoison()),
    ("certifier", certifier.SoundCertifier()),
    ("metric", metric.SoundMetric()),
    ("tracker", tracker.SoundTracker()),
)
"""One plugin of each kind that keeps every rule."""


def _fault(kind: str, plugin: type[Component], *rules: str) -> Fault:
    return Fault(kind, plugin(), frozenset(rules))


FAULTS: tuple[Fault, ...] = (
    _fault("attack", candidates.LeavesTheBall, "stays_in_ball_box_and_region", "works_on_every_shape_it_accepts"),
    _fault("attack", candidates.IgnoresTheRegion, "stays_in_ball_box_and_region", "works_on_every_shape_it_accepts"),
    _fault("attack", candidates.NeverMoves, "breaks_an_easy_example"),
    _fault("attack", tasks.KnowsOneLabel, "works_on_every_task_it_declares"),
    _fault("attack", tasks.AveragesOverScenes, "works_on_every_task_it_declares"),
    _fault("attack", tasks.StaysOnSites, "works_on_every_task_it_declares"),
    _fault("dataset", tasks.HidesItsTask, "has_labels_in_range"),
    _fault("model", tasks.AnswersClassesFirst, "gives_logits"),
    _fault("attack", candidates.MistakesTheGoal, "breaks_an_easy_example"),
    _fault("attack", candidates.ReturnsDoubles, "keeps_shape_and_dtype"),
    _fault("attack", candidates.ReturnsSingles, "keeps_shape_and_dtype"),
    _fault("attack", candidates.KnowsTenClasses, "works_on_every_shape_it_accepts"),
    _fault("attack", candidates.NeedsThreeClassesForATarget, "works_on_every_shape_it_accepts"),
    _fault("attack", candidates.NeedsSinglesInARegion, "works_on_every_shape_it_accepts"),
    _fault("attack", candidates.SqueezesOneExample, "accepts_a_batch_of_one"),
    _fault("attack", candidates.NeedsThreeChannels, "works_on_every_shape_it_accepts"),
    _fault("attack", attacks.ChangesItsInput, "leaves_inputs_alone"),
    _fault("attack", attacks.ChangesTheModel, "leaves_model_alone"),
    _fault("attack", attacks.AsksBehindTheTarget, "asks_only_through_the_target"),
    _fault("attack", attacks.DrawsFromTorch, "leaves_global_rng_alone"),
    _fault("attack", attacks.DrawsFromNumpy, "leaves_global_rng_alone"),
    _fault("attack", attacks.SeedsPython, "leaves_global_rng_alone"),
    _fault("attack", process.LeavesDeterminism, "leaves_global_rng_alone"),
    _fault("dataset", process.LeavesItsFolder, "loads_the_same_again"),
    _fault("model", process.ChangesErrorsOfNumpy, "evaluates_without_side_effects"),
    _fault("defense", process.LeavesAnomalyDetection, "protects_with_logits", "leaves_everything_alone_while_scoring"),
    _fault("poison", process.TakesASignal, "leaves_its_input_alone"),
    _fault("certifier", process.SetsThreads, "leaves_system_and_inputs_alone"),
    _fault("metric", process.SilencesWarnings, "leaves_outcomes_alone"),
    _fault("tracker", process.ListensToASignal, "leaves_global_rng_alone"),
    _fault(
        "attack",
        attacks.CountsItsCalls,
        "same_seed_same_result",
        "declares_whether_it_is_random",
        "batch_split_changes_nothing",
        "ignores_a_constant_added_to_the_logits",
        "works_against_randomized_systems",
    ),
    _fault("attack", attacks.HidesItsRandomness, "declares_whether_it_is_random"),
    _fault("attack", attacks.NormalisesOverTheBatch, "batch_split_changes_nothing"),
    _fault("attack", attacks.ReadsLogitsAgainstZero, "ignores_a_constant_added_to_the_logits"),
    _fault("attack", attacks.UsesGradientsUnderScores, "needs_no_more_access_than_it_declares"),
    _fault("attack", attacks.OverspendsByOne, "honours_the_query_budget"),
    _fault("attack", attacks.DividesByTheGradient, "survives_zero_gradients"),
    _fault("attack", attacks.FollowsNan, "survives_a_system_that_says_nan"),
    _fault("attack", attacks.DividesByEps, "changes_nothing_at_eps_zero"),
    _fault("attack", attacks.SupportsNoNorm, "declares_what_it_supports"),
    _fault("attack", NamesNoPaper, "names_its_paper"),
    _fault("attack", prepared.PreparesAnew, "prepares_the_same_tensors_again"),
    _fault("attack", prepared.DrawsWhilePreparing, "leaves_everything_alone_while_preparing"),
    _fault("attack", prepared.OverspendsWhilePreparing, "honours_the_query_budget"),
    _fault("attack", attacks.HasUnplainSettings, "has_plain_settings"),
    _fault("attack", attacks.DriftsWhenRandomised, "works_against_randomized_systems"),
    _fault("dataset", dataset.SharesExamples, "has_disjoint_splits"),
    _fault("dataset", dataset.ForgetsToScale, "has_values_in_the_unit_box"),
    _fault("dataset", dataset.CountsLabelsFromOne, "has_labels_in_range"),
    _fault("dataset", dataset.ShufflesGlobally, "loads_the_same_again"),
    _fault("dataset", dataset.HasAMovingRevision, "has_a_stable_revision"),
    _fault("model", model.ForgetsAClass, "gives_logits"),
    _fault("model", model.CentresOverTheBatch, "evaluates_each_row_by_itself"),
    _fault("model", model.DropsInEvaluation, "evaluates_without_side_effects"),
    _fault("model", model.HasAnIdleWeight, "gives_gradients"),
    _fault("model", model.StartsAnywhere, "draws_weights_from_the_seed"),
    _fault("model", model.LearnsOnAndOn, "fits_itself_by_the_seed"),
    _fault("defense", defense.RepeatsIds, "prepares_valid_examples"),
    _fault("defense", defense.AugmentsGlobally, "prepares_the_same_examples_again"),
    _fault("defense", defense.LosesTheMean, "has_a_finite_loss"),
    _fault("defense", defense.WarmsUp, "same_seed_same_loss"),
    _fault("defense", defense.IsNeverOff, "is_off_at_strength_zero"),
    _fault("defense", defense.StartsOnTheModel, "starts_without_a_trace"),
    _fault("defense", defense.AttacksInTrainingMode, "counts_in_statistics_what_it_learns_from"),
    _fault("defense", defense.WakesFrozenLayers, "counts_in_statistics_what_it_learns_from"),
    _fault("defense", defense.RoundsTheGradientAway, "keeps_the_gradient"),
    _fault("defense", defense.StopsTheGradientOfBlackAndWhite, "keeps_the_gradient"),
    _fault("defense", defense.DefenseHidesItsRandomness, "declares_whether_it_is_random"),
    _fault("defense", defense.LooksAtTheNeighbours, "batch_split_changes_nothing"),
    _fault("defense", defense.SuspectsTheBatch, "scores_suspicion_per_example"),
    _fault("defense", inference.RoundsAtStrengthZero, "changes_nothing_at_strength_zero"),
    _fault("defense", inference.ClaimsRandomness, "answers_at_random_if_it_says_so"),
    _fault("defense", inference.VotesWithOneVoice, "votes_only_if_it_is_random"),
    _fault("defense", inference.ShowsAnotherForward, "answers_the_same_with_and_without_gradients"),
    _fault("defense", inference.KeepsWeightsToItself, "answers_the_same_after_reloading"),
    _fault("defense", inference.DefenseNeedsThreeChannels, "takes_images_of_any_size"),
    _fault("defense", inference.TripsOverRows, "takes_tabular_data_or_refuses_it_by_name"),
    _fault("defense", inference.HidesAMember, "counts_its_passes"),
    _fault("defense", inference.DescendsInSecret, "declares_an_optimisation"),
    _fault("defense", inference.OffersAnotherNetwork, "offers_settings_that_can_be_attacked"),
    _fault("defense", detector.TrustsALargeLogit, "ignores_a_constant_added_to_the_logits"),
    _fault("defense", detector.GrowsSuspicious, "keeps_false_positives_in_their_range"),
    _fault("defense", detector.ForgetsWhatItFitted, "scores_the_same_after_reloading"),
    _fault("defense", detector.LeavesTrainingMode, "leaves_everything_alone_while_scoring"),
    _fault("defense", detector.RoundsItsScore, "gives_a_gradient_to_follow"),
    _fault("defense", detector.HidesItsTrainingAttack, "names_what_it_was_fitted_on"),
    _fault("poison", poison.PoisonsOneMore, "honours_the_declared_rate"),
    _fault("poison", poison.PoisonsInSecret, "changes_only_what_it_names"),
    _fault("poison", poison.PoisonsNothing, "changes_something"),
    _fault("poison", poison.PoisonsInPlace, "leaves_its_input_alone"),
    _fault("poison", poison.TriggersOutside, "puts_its_trigger_in_the_box"),
    _fault("certifier", certifier.Overclaims, "proves_nothing_that_is_false"),
    _fault("certifier", certifier.CertifiesNothing, "proves_something"),
    _fault("certifier", certifier.SamplesGlobally, "same_seed_same_radius"),
    _fault("certifier", certifier.AveragesTheBatch, "batch_split_changes_nothing"),
    _fault("certifier", certifier.ReadsLayers, "certifies_the_computation_not_its_layers"),
    _fault(
        "certifier",
        certifier.TrustsTheGradient,
        "stays_below_the_exact_distance_of_a_network",
        "stays_below_what_an_attack_reaches",
    ),
    _fault("certifier", certifier.TakesNanForFar, "certifies_nothing_that_is_not_finite"),
    _fault(
        "certifier",
        certifier.CertifiesAnyLabel,
        "gives_zero_where_the_label_is_wrong",
        "proves_nothing_that_is_false",
    ),
    _fault("certifier", certifier.WritesIntoItsInput, "leaves_system_and_inputs_alone"),
    _fault("certifier", certifier.AnswersInDoubles, "gives_a_radius_per_example"),
    _fault("metric", metric.GivesText, "gives_numbers_or_none"),
    _fault("metric", metric.GivesNan, "gives_numbers_or_none"),
    _fault("metric", metric.HasNoUnit, "gives_named_measurements"),
    _fault("metric", metric.MissesItsInterval, "has_its_value_in_its_interval"),
    _fault("metric", metric.ForgetsEarlierBatches, "adds_up_over_batches"),
    _fault("metric", metric.ChangesTheOutcomes, "leaves_outcomes_alone"),
    _fault("tracker", tracker.TripsOverFailures, "takes_every_event"),
    _fault("tracker", tracker.ListensToNobody, "observes_something"),
    _fault("tracker", tracker.MisspellsAHook, "observes_something"),
    _fault("tracker", tracker.SeedsWhileObserving, "leaves_global_rng_alone"),
)
