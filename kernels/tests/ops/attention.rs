//! Attention.

use candle_core::{DType, Device, Tensor};
use peftbench_kernels::*;

use crate::support::*;

#[test]
fn attention_matches_on_spans_of_all_lengths() {
    let cases: [(&[usize], &[usize], usize, usize); 6] = [
        (&[1], &[1], 1, 4),
        (&[5, 1, 17], &[5, 1, 17], 3, 8),
        (&[1, 1, 1], &[4, 33, 1], 2, 32),
        (&[3, 130], &[3, 130], 2, 7),
        (&[1, 100, 2], &[1, 100, 2], 1, 16),
        (&[2, 3], &[22, 23], 2, 5),
    ];
    for (queries, keys, heads, d) in cases {
        let (query_spans, key_spans) = (
            Spans::from_lengths(queries).unwrap(),
            Spans::from_lengths(keys).unwrap(),
        );
        let (m, n, h) = (query_spans.rows(), key_spans.rows(), heads * d);
        let inputs = seeded(&[&[m, h], &[n, h], &[n, h]]);
        let op = |t: &[Tensor]| attention(&t[0], &t[1], &t[2], &query_spans, &key_spans, heads);
        check(&op, &inputs, &[&[], &[0], &[1], &[2], &[0, 1, 2]]);
    }
    zeros_would_be_seen();
}

/// All kinds of hiding, with 6 heads over some heads of keys.
fn hidings(key_value_heads: usize) -> Vec<Attention> {
    let kinds = [
        (false, None),
        (true, None),
        (true, Some(1)),
        (true, Some(20)),
        (false, Some(1)),
        (false, Some(7)),
        (false, Some(64)),
    ];
    let attention = |(causal, window)| Attention {
        heads: 6,
        key_value_heads,
        causal,
        window,
    };
    kinds.into_iter().map(attention).collect()
}

#[test]
fn attention_that_hides_and_shares_keys_matches() {
    // Longer than a block of queries; the second with queries at the end of their keys.
    let cases: [(&[usize], &[usize], usize); 3] = [
        (&[5, 1, 70], &[5, 1, 70], 4),
        (&[1, 3, 60], &[1, 40, 75], 5),
        (&[2], &[2], 16),
    ];
    for (queries, keys, d) in cases {
        let (query_spans, key_spans) = (
            Spans::from_lengths(queries).unwrap(),
            Spans::from_lengths(keys).unwrap(),
        );
        for key_value_heads in [2, 6] {
            let (m, n) = (query_spans.rows(), key_spans.rows());
            let (h, kv) = (6 * d, key_value_heads * d);
            let inputs = seeded(&[&[m, h], &[n, kv], &[n, kv]]);
            for attention in hidings(key_value_heads) {
                let op =
                    |t: &[Tensor]| attention.forward(&t[0], &t[1], &t[2], &query_spans, &key_spans);
                check(&op, &inputs, &[&[], &[1], &[0, 1, 2]]);
            }
        }
    }
    zeros_would_be_seen();
}

/// Equal scores: the result is the mean of the values that are seen.
#[test]
fn a_query_sees_the_keys_that_its_kind_of_attention_shows() {
    let n = 9;
    let spans = Spans::from_lengths(&[n]).unwrap();
    let q = Tensor::zeros((n, 1), DType::F32, &Device::Cpu).unwrap();
    let v = Tensor::arange(0f32, n as f32, &Device::Cpu).unwrap();
    let v = v.reshape((n, 1)).unwrap();
    let means = |causal, window| {
        let attention = Attention {
            causal,
            window,
            ..Attention::full(1)
        };
        values(&attention.forward(&q, &q, &v, &spans, &spans).unwrap())
    };
    let expected = |seen: &dyn Fn(usize) -> std::ops::RangeInclusive<usize>| -> Vec<f64> {
        let mean = |i| (seen(i).start() + seen(i).end()) as f64 / 2.0;
        (0..n).map(mean).collect()
    };
    let close = |a: Vec<f64>, b: Vec<f64>| assert!(distance(&a, &b) < 1e-6, "{a:?} {b:?}");
    close(means(false, None), expected(&|_| 0..=8));
    close(means(true, None), expected(&|i| 0..=i));
    close(means(true, Some(3)), expected(&|i| i.saturating_sub(2)..=i));
    for window in [4, 5] {
        close(
            means(false, Some(window)),
            expected(&|i| i.saturating_sub(2)..=(i + 2).min(8)),
        );
    }
    close(means(false, Some(usize::MAX)), expected(&|_| 0..=8));
}

#[test]
fn one_query_after_a_cache_of_keys_gives_the_last_row_of_the_whole_pass() {
    let (n, d) = (140, 8);
    let inputs: Vec<Tensor> = seeded(&[&[n, 6 * d], &[n, 2 * d], &[n, 2 * d]])
        .iter()
        .map(|t| t.to_dtype(DType::F32).unwrap())
        .collect();
    let (spans, one) = (
        Spans::from_lengths(&[n]).unwrap(),
        Spans::from_lengths(&[1]).unwrap(),
    );
    let last = inputs[0].narrow(0, n - 1, 1).unwrap();
    for attention in hidings(2) {
        let whole = attention.forward(&inputs[0], &inputs[1], &inputs[2], &spans, &spans);
        let whole = values(&whole.unwrap().narrow(0, n - 1, 1).unwrap());
        let step = attention.forward(&last, &inputs[1], &inputs[2], &one, &spans);
        assert!(distance(&values(&step.unwrap()), &whole) < 1e-6);
    }
}

#[test]
fn attention_of_one_tensor_with_itself_adds_the_three_gradients() {
    let spans = Spans::from_lengths(&[4, 2]).unwrap();
    check(
        &|t| attention(&t[0], &t[0], &t[0], &spans, &spans, 2),
        &seeded(&[&[6, 8]]),
        &[&[0]],
    );
    zeros_would_be_seen();
}

#[test]
fn attention_survives_scores_beyond_the_range_of_exp() {
    let spans = Spans::from_lengths(&[18]).unwrap();
    let q = (seeded(&[&[18, 8]]).remove(0).to_dtype(DType::F32).unwrap() * 300.0).unwrap();
    for &level in levels() {
        with_level(level, || {
            for shift in [-1.0, 1.0] {
                let k = (&q * shift).unwrap();
                let fast = values(&attention(&q, &k, &q, &spans, &spans, 1).unwrap());
                let plain = with_reference_path(true, || {
                    values(&attention(&q, &k, &q, &spans, &spans, 1).unwrap())
                });
                assert!(distance(&fast, &plain) < FORWARD);
            }
        });
    }
}
