//! An example gets the same whatever stands beside it in a batch.

use std::cell::RefCell;

use backbone::{Backbone, Hooks, Mixed, NoHooks, Phase, Pooling};
use methods::{HeadOnly, PeftMethod, registry};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::{methods, support::*};

#[test]
fn a_packed_batch_equals_one_example_at_a_time_in_any_order() {
    for case in everywhere() {
        let (frozen, said) = (&case.frozen, &case.said);
        let method = case.perturbed();
        let together = evaluated(&*method, frozen, &examples());
        let alone: Vec<_> = examples()
            .into_iter()
            .flat_map(|e| evaluated(&*method, frozen, &[e]))
            .collect();
        assert!(largest_difference(&together, &alone) < 1e-6, "{said}");
        let mut reversed: Vec<_> = examples();
        reversed.reverse();
        let mut reversed = evaluated(&*method, frozen, &reversed);
        reversed.reverse();
        assert!(largest_difference(&together, &reversed) < 1e-6, "{said}");
    }
}

#[test]
fn the_bare_backbone_is_the_head_only_method() {
    let frozen = backbone();
    let bare = frozen.pooled(&packed(&examples()), &NoHooks, Phase::Eval);
    assert_eq!(
        evaluated(&HeadOnly, &frozen, &examples()),
        values(&bare.unwrap())
    );
}

/// A case's name, its method, and the examples that are its own.
type Neighbour = (String, Box<dyn PeftMethod>, Vec<Vec<u32>>);

/// All methods that share the frozen backbone, each moved away from its start, with a few examples each.
fn neighbours(frozen: &Backbone) -> Vec<Neighbour> {
    let mut all = cases_over(frozen);
    all.retain(|(_, resolved)| resolved.check(frozen.config()).is_ok());
    all.push((
        "prompt_tuning of another length".into(),
        resolve("prompt_tuning", &[("virtual_tokens", "9")]),
    ));
    all.into_iter()
        .enumerate()
        .map(|(i, (case, resolved))| {
            let method = build(&resolved, frozen, i as u64);
            perturb(&*method);
            let own = (0..1 + i % 3)
                .map(|j| {
                    let length = 2 + (7 * i + 5 * j) as u32 % 23;
                    (0..length).map(|t| (t * 11 + i as u32) % 40).collect()
                })
                .collect();
            (case, method, own)
        })
        .filter(|(_, method, _)| method.backbone().is_none())
        .collect()
}

fn mixed(frozen: &Backbone, all: &[&Neighbour]) -> Vec<Vec<f64>> {
    let hooks = Mixed::new(
        all.iter()
            .map(|(_, method, own)| (&**method as &dyn Hooks, own.len())),
    );
    let examples: Vec<Vec<u32>> = all.iter().flat_map(|(.., own)| own.clone()).collect();
    let rows =
        kernels::without_gradients(|| frozen.pooled(&packed(&examples), &hooks, Phase::Eval));
    values(&rows.unwrap())
}

/// Examples of all methods in one batch against the same examples alone: no difference above `bound`, relative to the largest
/// value.
fn compare_with_alone(frozen: &Backbone, bound: f64) {
    let all = neighbours(frozen);
    assert!(all.len() + 2 >= registry::ALL.len());
    let together = mixed(frozen, &all.iter().collect::<Vec<_>>());
    let mut first = 0;
    for (case, method, own) in &all {
        let alone = evaluated(&**method, frozen, own);
        let difference = largest_difference(&together[first..first + own.len()], &alone);
        assert!(
            difference <= bound,
            "{}: {case}, {}: {difference:e}",
            frozen.config().architecture.name(),
            frozen.pooling().name()
        );
        first += own.len();
    }
    assert_eq!(together.len(), first);
}

fn of_each_pooling() -> impl Iterator<Item = Backbone> {
    let by_mean = backbones()
        .into_iter()
        .map(|b| b.with_pooling(Pooling::Mean).unwrap());
    backbones().into_iter().chain(by_mean)
}

#[test]
fn examples_of_all_methods_in_one_batch_get_the_bits_that_they_get_alone() {
    kernels::with_reference_path(false, || {
        for frozen in of_each_pooling() {
            compare_with_alone(&frozen, 0.0);
        }
    });
}

/// candle's product takes the terms of a sum lane by lane where it has up to 256 results, and one after the other where it has
/// more, so the order of a sum depends on the size of the batch. Two orders of a sum of k terms differ by at most kε Σ|xᵢwᵢ|
/// (Higham 2002, section 3.1, to first order). Here k ≤ 64, and 18 products stand one behind the other: three layers of
/// query, scores, values, output and the two of the feed-forward network. In f64, so that what rounding may do is a
/// billion times smaller than what a neighbour would.
#[test]
fn on_the_reference_path_a_neighbour_changes_no_more_than_the_order_of_a_sum_does() {
    kernels::with_reference_path(true, || {
        for frozen in of_each_pooling() {
            compare_with_alone(&in_f64(&frozen), 18.0 * 64.0 * f64::EPSILON);
        }
    });
}

#[test]
fn a_neighbour_in_the_batch_changes_no_bit() {
    kernels::with_reference_path(false, || {
        let frozen = backbone();
        let all = neighbours(&frozen);
        let of = |all: &[&Neighbour], case: &str| {
            let before = all.iter().take_while(|(name, ..)| name != case);
            let first: usize = before.map(|(.., own)| own.len()).sum();
            let own = all.iter().find(|(name, ..)| name == case).unwrap().2.len();
            mixed(&frozen, all)[first..first + own].to_vec()
        };
        for (left_out, case) in [
            ("lora", "adapter"),
            ("prompt_tuning", "lora"),
            ("head_only", "prompt_tuning"),
        ] {
            let with: Vec<_> = all.iter().collect();
            let without: Vec<_> = all.iter().filter(|(name, ..)| name != left_out).collect();
            let reversed: Vec<_> = all.iter().rev().collect();
            assert_eq!(
                of(&with, case),
                of(&without, case),
                "{case} without {left_out}"
            );
            assert_eq!(
                of(&with, case),
                of(&reversed, case),
                "{case} in another order"
            );
        }
    });
}

#[test]
fn a_mixed_batch_is_refused_in_training_and_when_its_groups_do_not_fit() {
    let frozen = backbone();
    let hooks = |n: usize| Mixed::new([(&HeadOnly as &dyn Hooks, 1), (&HeadOnly as &dyn Hooks, n)]);
    let batch = packed(&examples());
    let rng = RefCell::new(ChaCha8Rng::seed_from_u64(9));
    let training = frozen
        .pooled(&batch, &hooks(3), Phase::Train(&rng))
        .unwrap_err();
    assert!(training.to_string().contains("not trained"), "{training}");
    let short = frozen.pooled(&batch, &hooks(2), Phase::Eval).unwrap_err();
    assert!(
        short.to_string().contains("3 examples but the batch has 4"),
        "{short}"
    );
    assert!(frozen.pooled(&batch, &hooks(3), Phase::Eval).is_ok());
}
