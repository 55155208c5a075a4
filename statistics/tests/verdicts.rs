//! What is said of methods, on scores small enough to see through.

use statistics::*;

/// Seeds of a method that is right on the first so many of n examples.
fn steady(right: usize, n: usize, seeds: u64) -> Scores {
    Scores::right((0..seeds).map(|seed| (seed, (0..n).map(|j| j < right).collect()))).unwrap()
}

/// The same with a few examples flipping from seed to seed.
fn flipping(right: usize, n: usize, seeds: u64, flips: usize) -> Scores {
    Scores::right((0..seeds).map(|seed| {
        let flip = |j: usize| (j * 7919 + seed as usize * 104_729) % n < flips;
        (seed, (0..n).map(|j| (j < right) != flip(j)).collect())
    }))
    .unwrap()
}

fn compared(methods: &[Scores]) -> Family {
    Family::new(methods, Margin::POINT)
}

fn procedure() -> Procedure {
    Procedure {
        looks: Looks::default(),
        margin: Margin::POINT,
    }
}

#[test]
fn the_four_verdicts() {
    let best = flipping(900, 1000, 5, 20);
    let verdict = |other: &Scores| compared(&[other.clone(), best.clone()]).pairs[0].verdict;
    assert_eq!(verdict(&flipping(800, 1000, 5, 20)), Verdict::Worse);
    assert_eq!(verdict(&flipping(980, 1000, 5, 20)), Verdict::Better);
    assert_eq!(verdict(&best.clone()), Verdict::Equivalent);
    let few = compared(&[flipping(18, 20, 5, 2), flipping(17, 20, 5, 3)]);
    assert_eq!(few.pairs[0].verdict, Verdict::Undecided);
}

#[test]
fn a_pair_seen_from_the_other_side_says_the_opposite() {
    let family = compared(&[steady(90, 100, 5), steady(60, 100, 5)]);
    let (pair, back) = (family.pair(0, 1).unwrap(), family.pair(1, 0).unwrap());
    assert_eq!(
        (pair.verdict, back.verdict),
        (Verdict::Better, Verdict::Worse)
    );
    assert_eq!(pair.evidence.difference, -back.evidence.difference);
    assert_eq!(
        pair.evidence.interval,
        back.evidence
            .interval
            .map(|x| -x)
            .into_iter()
            .rev()
            .collect::<Vec<_>>()[..]
    );
}

#[test]
fn one_seed_has_no_evidence_and_two_have_no_verdict() {
    let one = compared(&[steady(90, 100, 1), steady(10, 100, 1)]);
    assert!(one.pairs.is_empty());
    assert_eq!(one.letters(), ["", ""]);
    let two = compared(&[steady(90, 100, 2), steady(10, 100, 2)]);
    assert_eq!(
        (two.pairs[0].verdict, two.pairs[0].corrected),
        (Verdict::Undecided, None)
    );
    assert_eq!(two.letters(), ["", ""]);
}

#[test]
fn methods_that_agree_on_few_examples_are_not_equivalent() {
    let verdict = |n| compared(&[steady(n - 2, n, 5), steady(n - 2, n, 5)]).pairs[0].verdict;
    assert_eq!(verdict(20), Verdict::Undecided);
    assert_eq!(verdict(1000), Verdict::Equivalent);
}

#[test]
fn a_pair_that_was_never_compared_shares_no_letter() {
    let elsewhere =
        Scores::right((10..15).map(|seed| (seed, (0..100).map(|j| j < 90).collect()))).unwrap();
    let methods = [
        steady(90, 100, 5),
        flipping(90, 100, 5, 2),
        elsewhere.clone(),
    ];
    let family = compared(&methods);
    assert_eq!(family.pair(0, 2), None);
    // The third has been compared with nobody.
    assert_eq!(family.letters(), ["a", "a", ""]);
    let bridge =
        Scores::right((0..15).map(|seed| (seed, (0..100).map(|j| j < 89).collect()))).unwrap();
    let family = compared(&[steady(90, 100, 5), bridge, elsewhere]);
    let letters = family.letters();
    assert!(
        !letters[0].chars().any(|c| letters[2].contains(c)),
        "{letters:?}"
    );
    assert!(letters[1].chars().any(|c| letters[0].contains(c)));
    assert!(letters[1].chars().any(|c| letters[2].contains(c)));
}

#[test]
fn intervals_of_rows_stay_within_what_the_metric_can_be() {
    for right in [0, 1, 50, 99, 100] {
        for seeds in [1, 3] {
            let [low, high] = Row::of(&steady(right, 100, seeds), Range::Share).interval;
            let share = right as f64 / 100.0;
            assert!(
                0.0 <= low && low <= share && share <= high && high <= 1.0,
                "{low} {share} {high}"
            );
            assert!(high - low > 0.02, "not surer than 100 examples allow");
        }
    }
    let near_one = Scores::new((0..3).map(|s| (s, [0.9, 1.0, 1.02, 0.99].repeat(10)))).unwrap();
    let Row {
        mean,
        interval: [low, high],
        ..
    } = Row::of(&near_one, Range::Correlation);
    assert!(
        -1.0 <= low && low < mean && mean < high && high <= 1.0,
        "{low} {high}"
    );
}

#[test]
fn one_wrong_example_leaves_an_interval_hardly_wider_than_none() {
    // Ten seeds on 1,000 examples, the first of which is wrong on so many.
    let low = |wrong: usize| {
        let rows = (0..10).map(|seed| (seed, (0..1000).map(|j| seed > 0 || j >= wrong).collect()));
        Row::of(&Scores::right(rows).unwrap(), Range::Share).interval[0]
    };
    // Wilson of none among 1,000.
    assert!((low(0) - 1000.0 / 1003.85).abs() < 1e-4, "{}", low(0));
    assert!(low(1) > 0.994 && low(1) < low(0), "{} {}", low(1), low(0));
}

#[test]
fn rounding_at_an_end_of_the_range_changes_no_interval() {
    for range in [Range::Share, Range::Correlation] {
        let of = |hair: f64| {
            let rows = (0..3).map(|seed| (seed, vec![1.0 + hair; 50]));
            Row::of(&Scores::new(rows).unwrap(), range).interval
        };
        let [low, high] = of(0.0);
        assert!(low > 0.9 && low < 0.97 && high == 1.0, "{low} {high}");
        for hair in [-f64::EPSILON, f64::EPSILON] {
            let found = of(hair);
            assert!((found[0] - low).abs() < 1e-9 && (found[1] - high).abs() < 1e-9);
        }
    }
}

#[test]
fn a_pair_that_alone_has_seeds_in_common_is_not_steadied_by_itself() {
    let two = [flipping(90, 100, 3, 4), flipping(80, 100, 3, 6)];
    let elsewhere = Scores::right([(9, vec![true; 100])]).unwrap();
    let three = [two[0].clone(), two[1].clone(), elsewhere];
    let (alone, beside) = (compared(&two), compared(&three));
    assert_eq!(alone.pairs, beside.pairs);
    assert!(alone.pairs[0].evidence.components.between_df < 3.0);
}

#[test]
fn seeds_that_agree_leave_the_examples_as_the_floor_that_no_seed_goes_below() {
    let family = compared(&[steady(90, 100, 5), steady(89, 100, 5)]);
    let remedy = Remedy::of(&family.pairs[0].evidence, Margin::POINT, 1);
    assert_eq!(remedy.seeds, None);
    assert!(remedy.examples.unwrap() > 100);
    assert!((remedy.floor_of_examples - family.pairs[0].evidence.standard_error).abs() < 1e-12);
}

#[test]
fn the_seeds_that_a_plan_asks_for_are_enough_and_one_fewer_is_not() {
    let family = compared(&[flipping(950, 1000, 3, 60), flipping(930, 1000, 3, 90)]);
    let mut evidence = family.pairs[0].evidence;
    // As if seeds varied by two points.
    evidence.components.between = 4e-4;
    evidence.components.shared = 1e-6;
    evidence.difference = 0.02;
    let seeds = Remedy::of(&evidence, Margin::POINT, 1).seeds.unwrap();
    let wanted = |s: usize| {
        let se = evidence.components.variance_with(s, 1000).sqrt();
        evidence.difference / se
    };
    // The t quantiles are a little above the normal ones, 1.960 + 0.842.
    assert!(
        wanted(seeds) > 2.802 && wanted(seeds - 2) < 3.2,
        "{seeds} {}",
        wanted(seeds)
    );
    assert!((5..40).contains(&seeds), "{seeds}");
}

#[test]
fn the_cheapest_of_what_is_shown_is_recommended_and_else_what_is_missing() {
    let close = [
        flipping(900, 1000, 5, 4),
        flipping(899, 1000, 5, 4),
        steady(700, 1000, 5),
    ];
    let family = Family::new(&close, Margin::new(0.02).unwrap());
    let all = [0, 1, 2];
    match recommend(&family, &[3.0, 2.0, 1.0], &all).unwrap() {
        Recommendation::Shown { method, others, .. } => assert_eq!((method, others), (1, vec![0])),
        other => panic!("{other:?}"),
    }
    // The cheapest alone, under a limit that only it keeps, needs no test.
    assert!(matches!(
        recommend(&family, &[3.0, 2.0, 1.0], &[2]),
        Some(Recommendation::Shown { method: 2, .. })
    ));
    assert_eq!(recommend(&family, &[], &[]), None);
    let few = [flipping(45, 50, 5, 2), flipping(44, 50, 5, 3)];
    match recommend(&compared(&few), &[2.0, 1.0], &[0, 1]).unwrap() {
        Recommendation::NotShown { untested, .. } => assert!(untested.is_empty()),
        other => panic!("{other:?}"),
    }
    let one_seed = [steady(45, 50, 1), steady(10, 50, 1)];
    match recommend(&compared(&one_seed), &[2.0, 1.0], &[0, 1]).unwrap() {
        Recommendation::NotShown {
            nearest, untested, ..
        } => {
            assert_eq!((nearest, untested), (None, vec![(0, 1)]));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn seeds_are_added_only_to_methods_in_open_pairs_and_a_decision_stands() {
    let procedure = procedure();
    let all = |_: usize, _: usize| true;
    let methods = [
        flipping(900, 1000, 3, 20),
        flipping(897, 1000, 3, 30),
        steady(300, 1000, 3),
    ];
    let state = procedure.state(&methods, all);
    let verdict = |state: &State, a, b| {
        state
            .pairs
            .iter()
            .find(|p| (p.first, p.second) == (a, b))
            .copied()
            .unwrap()
    };
    assert_eq!(verdict(&state, 0, 2).verdict, Verdict::Better);
    assert_eq!(
        verdict(&state, 0, 1).open,
        Some(Open::NextLook { seeds: 5 })
    );
    assert_eq!(
        state.wanted.into_iter().collect::<Vec<_>>(),
        [(0, 5), (1, 5)]
    );
    // More seeds of the decided method change nothing on what was decided, even if they say otherwise.
    let mut later = methods.clone();
    later[2] =
        Scores::right((0..20).map(|seed| (seed, (0..1000).map(|j| seed > 2 || j < 300).collect())))
            .unwrap();
    assert_eq!(
        verdict(&procedure.state(&later, all), 0, 2).verdict,
        Verdict::Better
    );
    // Nobody cares: nothing is wanted.
    assert!(procedure.state(&methods, |_, _| false).wanted.is_empty());
}

#[test]
fn a_pair_that_no_seed_decides_is_given_up_with_the_reason() {
    let procedure = procedure();
    let right = |from: usize| {
        Scores::right(
            (0..5).map(|seed| (seed, (0..100).map(|j| j >= from && j < from + 90).collect())),
        )
        .unwrap()
    };
    let state = procedure.state(&[right(0), right(2)], |_, _| true);
    assert!(state.wanted.is_empty());
    match state.pairs[0].open {
        Some(Open::SeedsDoNotHelp { remedy }) => assert_eq!(remedy.seeds, None),
        other => panic!("{other:?}"),
    }
}

#[test]
fn at_an_early_look_a_verdict_and_a_recommendation_need_more_than_with_a_fixed_number_of_seeds() {
    // Two methods that differ clearly in what three seeds show once, but not by the bound of a first look.
    let methods = [flipping(900, 1000, 3, 20), flipping(890, 1000, 3, 20)];
    let fixed = compared(&methods);
    assert_eq!(fixed.pairs[0].verdict, Verdict::Better);
    let procedure = procedure();
    let looked = procedure.state(&methods, |_, _| true).family;
    assert_eq!(looked.looks, Some(Looks::default()));
    assert_eq!(looked.pairs[0].verdict, Verdict::Undecided);
    assert_eq!(looked.pairs[0].evidence, fixed.pairs[0].evidence);
    let (once, at_look) = (
        fixed.p_non_inferior(0, 1).unwrap(),
        looked.p_non_inferior(0, 1).unwrap(),
    );
    assert!(at_look > 10.0 * once, "{once} {at_look}");
    // The last look has nearly all of the error rate.
    let all = [flipping(900, 1000, 20, 20), flipping(890, 1000, 20, 20)];
    let fixed = compared(&all);
    let last = procedure.state(&all, |_, _| true).family;
    assert_eq!(last.pairs[0].verdict, Verdict::Better);
    let (once, at_look) = (
        fixed.p_non_inferior(0, 1).unwrap(),
        last.p_non_inferior(0, 1).unwrap(),
    );
    assert!(at_look >= once && at_look < 1.5 * once, "{once} {at_look}");
}

#[test]
fn the_pairs_of_the_best_and_of_neighbours_are_cared_about() {
    let means = [0.8, 0.9, 0.7, 0.6];
    let cares = |a, b| with_best_or_neighbours(&means, a, b);
    assert!(cares(0, 1) && cares(1, 3) && cares(2, 0) && cares(2, 3));
    assert!(!cares(0, 3));
}

#[test]
fn a_margin_is_a_fraction() {
    assert_eq!(Margin::new(0.01), Ok(Margin::POINT));
    for bad in [0.0, -0.1, 1.0, f64::NAN] {
        assert!(Margin::new(bad).is_err());
    }
}
