//! Every operation: forward alone, and with its backward, on the fast path of every level that this machine has, on the
//! plain reference, and as candle's own where candle has it. Shapes are those of MiniLM on a batch of 32 sentences; what
//! only decoders use has the shapes of SmolLM2-135M.

use anyhow::Result;
use backbone::{Activation, LayerNorm, Linear, Spans};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::Module;
use criterion::{BenchmarkId, Criterion, Throughput};
use kernels::{AdamWStep, Attention, Moments, RmsNorm, RotaryLayout};

use crate::common;

const H: usize = 384;
const I: usize = 1536;

/// A pass to time.
type Pass<'a> = Box<dyn Fn() -> candle_core::Result<Tensor> + 'a>;

/// `forward` gives the result; with `trained`, the backward of its sum of squares is timed too.
fn bench(
    c: &mut Criterion,
    op: &str,
    shape: &str,
    throughput: u64,
    forward: &dyn Fn() -> candle_core::Result<Tensor>,
    backward: bool,
) {
    let mut group = c.benchmark_group(op);
    group.throughput(Throughput::Elements(throughput));
    let mut run = |variant: &str, f: &dyn Fn() -> candle_core::Result<Tensor>| {
        group.bench_function(BenchmarkId::new(shape, variant), |b| {
            b.iter(|| f().expect("the shapes fit"));
        });
    };
    let step = || -> candle_core::Result<Tensor> {
        let y = forward()?;
        let loss = match y.rank() {
            0 => y,
            _ => kernels::cross_entropy(&y, &vec![0; y.dims2()?.0])?,
        };
        let grads = kernels::backward(&loss)?;
        drop(grads);
        Ok(loss)
    };
    let pass: Pass = if backward {
        Box::new(step)
    } else {
        Box::new(|| kernels::without_gradients(forward))
    };
    for &level in kernels::levels() {
        run(&format!("{level:?}").to_lowercase(), &|| {
            kernels::with_level(level, &pass)
        });
    }
    run("reference", &|| kernels::with_reference_path(true, &pass));
}

fn candle(
    c: &mut Criterion,
    op: &str,
    shape: &str,
    throughput: u64,
    f: &dyn Fn() -> candle_core::Result<Tensor>,
) {
    let mut group = c.benchmark_group(op);
    group.throughput(Throughput::Elements(throughput));
    group.bench_function(BenchmarkId::new(shape, "candle"), |b| {
        b.iter(|| f().expect("the shapes fit"));
    });
}

fn values(shape: &[usize]) -> candle_core::Result<Tensor> {
    let n: usize = shape.iter().product();
    let data: Vec<f32> = (0..n)
        .map(|i| ((i * 7919 % 1009) as f32 / 1009.0 - 0.5) * 0.5)
        .collect();
    Tensor::from_vec(data, shape, &Device::Cpu)
}

pub fn define(c: &mut Criterion) -> Result<()> {
    let lengths = common::sentences();
    let spans = Spans::from_lengths(&lengths)?;
    let n = spans.rows();
    let x = values(&[n, H])?;
    let var = Var::from_tensor(&x)?;
    let tracked = || Ok::<_, candle_core::Error>(var.as_tensor().clone());

    // Throughput: floating-point operations of the products.
    for (rows, k, o) in [(n, H, H), (n, H, I), (n, I, H), (28, H, I), (28, I, H)] {
        let input = values(&[rows, k])?;
        let layer = Linear::new(values(&[o, k])?, Some(values(&[o])?))?;
        let shape = format!("{rows}x{k}x{o}");
        let operations = (2 * rows * k * o) as u64;
        bench(
            c,
            "linear",
            &shape,
            operations,
            &|| layer.forward(&input),
            false,
        );
        let theirs = candle_nn::Linear::new(layer.weight(), layer.bias().cloned());
        candle(c, "linear", &shape, operations, &|| theirs.forward(&input));
        if o == I {
            bench(
                c,
                "linear_gelu",
                &shape,
                operations,
                &|| layer.forward_activated(&input, Activation::Gelu),
                false,
            );
            candle(c, "linear_gelu", &shape, operations, &|| {
                theirs.forward(&input)?.gelu_erf()
            });
        }
        let input = Var::from_tensor(&input)?;
        bench(
            c,
            "linear_and_backward",
            &shape,
            2 * operations,
            &|| layer.forward(&input),
            true,
        );
        let trained = Linear::new(
            Var::from_tensor(&layer.weight())?.as_tensor().clone(),
            layer.bias().cloned(),
        )?;
        bench(
            c,
            "linear_trained_and_backward",
            &shape,
            3 * operations,
            &|| trained.forward(&input),
            true,
        );
    }

    // Throughput: values.
    let shape = format!("{n}x{H}");
    let elements = (n * H) as u64;
    let norm = LayerNorm::new(values(&[H])?, values(&[H])?, 1e-12)?;
    bench(
        c,
        "layer_norm_residual",
        &shape,
        elements,
        &|| norm.forward_residual(&x, &x),
        false,
    );
    let theirs = candle_nn::LayerNorm::new(norm.gamma().clone(), norm.beta().clone(), 1e-12);
    candle(c, "layer_norm_residual", &shape, elements, &|| {
        theirs.forward(&(&x + &x)?)
    });
    bench(
        c,
        "layer_norm_residual_and_backward",
        &shape,
        elements,
        &|| norm.forward_residual(&tracked()?, &x),
        true,
    );

    let wide = values(&[n, I])?;
    bench(
        c,
        "gelu",
        &format!("{n}x{I}"),
        (n * I) as u64,
        &|| kernels::activate(&wide, Activation::Gelu),
        false,
    );
    candle(c, "gelu", &format!("{n}x{I}"), (n * I) as u64, &|| {
        wide.gelu_erf()
    });

    bench(c, "add", &shape, elements, &|| kernels::add(&x, &x), false);
    candle(c, "add", &shape, elements, &|| &x + &x);

    let (a, b) = (
        Var::from_tensor(&values(&[8, H])?)?,
        Var::from_tensor(&values(&[H, 8])?)?,
    );
    let operations = (4 * n * H * 8) as u64;
    bench(
        c,
        "low_rank_add",
        &format!("{shape}x8"),
        operations,
        &|| kernels::low_rank_add(&x, &x, &a, &b, 2.0),
        false,
    );
    bench(
        c,
        "low_rank_add_and_backward",
        &format!("{shape}x8"),
        3 * operations,
        &|| kernels::low_rank_add(&tracked()?, &x, &a, &b, 2.0),
        true,
    );

    for (examples, length) in [(32, 13), (32, 33), (8, 128), (1, 28)] {
        let spans = Spans::from_lengths(&vec![length; examples])?;
        let q = values(&[examples * length, H])?;
        let name = format!("{examples}x{length}x{H}");
        let operations = (4 * examples * length * length * H) as u64;
        bench(
            c,
            "attention",
            &name,
            operations,
            &|| kernels::attention(&q, &q, &q, &spans, &spans, 12),
            false,
        );
        let q = Var::from_tensor(&q)?;
        bench(
            c,
            "attention_and_backward",
            &name,
            3 * operations,
            &|| kernels::attention(&q, &q, &q, &spans, &spans, 12),
            true,
        );
    }

    let table = values(&[30_522, H])?;
    let ids: Vec<u32> = (0..n as u32).map(|i| i * 61 % 30_000).collect();
    let ids_tensor = Tensor::new(ids.as_slice(), &Device::Cpu)?;
    bench(
        c,
        "embed",
        &shape,
        elements,
        &|| kernels::embed(&table, &ids),
        false,
    );
    candle(c, "embed", &shape, elements, &|| {
        table.index_select(&ids_tensor, 0)
    });
    bench(
        c,
        "mean_spans",
        &shape,
        elements,
        &|| kernels::mean_spans(&x, &spans, 0),
        false,
    );
    let prompt = values(&[20, H])?;
    bench(
        c,
        "prepend_rows",
        &shape,
        elements,
        &|| Ok(kernels::prepend_rows(&prompt, &x, &spans)?.0),
        false,
    );

    decoder(c)?;

    let logits = values(&[32, common::CLASSES])?;
    let labels: Vec<u32> = (0..32).map(|i| i % 2).collect();
    let labels_tensor = Tensor::new(labels.as_slice(), &Device::Cpu)?;
    bench(
        c,
        "cross_entropy",
        "32x2",
        64,
        &|| kernels::cross_entropy(&logits, &labels),
        false,
    );
    candle(c, "cross_entropy", "32x2", 64, &|| {
        candle_nn::loss::cross_entropy(&logits, &labels_tensor)
    });

    // The optimiser over one weight of the feed-forward network; candle's own is its AdamW.
    let weight = Var::zeros((I, H), DType::F32, &Device::Cpu)?;
    let grad = values(&[I, H])?;
    let moments = std::cell::RefCell::new(Moments::zeros(I * H));
    let step = AdamWStep {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.01,
        step: 1,
        grad_scale: 1.0,
    };
    let mut group = c.benchmark_group("adamw");
    group.throughput(Throughput::Elements((I * H) as u64));
    for &level in kernels::levels() {
        let variant = format!("{level:?}").to_lowercase();
        group.bench_function(BenchmarkId::new(format!("{I}x{H}"), variant), |b| {
            b.iter(|| {
                kernels::with_level(level, || {
                    kernels::adamw_step(&weight, &grad, &mut moments.borrow_mut(), &step)
                })
                .expect("the shapes fit")
            });
        });
    }
    let mut theirs = candle_nn::AdamW::new_lr(vec![weight.clone()], 1e-3)?;
    let mut grads = candle_core::backprop::GradStore::default();
    grads.insert(&weight, grad.clone());
    group.bench_function(BenchmarkId::new(format!("{I}x{H}"), "candle"), |b| {
        b.iter(|| candle_nn::Optimizer::step(&mut theirs, &grads).expect("the shapes fit"));
    });
    Ok(())
}

/// What decoders use: 8 texts of 64 tokens, and 32 labels over the vocabulary.
fn decoder(c: &mut Criterion) -> Result<()> {
    let (h, i, d, words) = (576, 1536, 64, 49_152_usize);
    let attention = Attention {
        heads: 9,
        key_value_heads: 3,
        causal: true,
        window: None,
    };
    let (texts, length) = (8, 64);
    let n = texts * length;
    let var = |shape: &[usize]| Var::from_tensor(&values(shape)?);
    let x = var(&[n, h])?;
    let elements = (n * h) as u64;

    let norm = RmsNorm::new(values(&[h])?, 1e-5)?;
    let (cos, sin) = (values(&[n, d / 2])?.cos()?, values(&[n, d / 2])?.sin()?);
    let (gate, up) = (var(&[n, i])?, var(&[n, i])?);
    let spans = Spans::from_lengths(&vec![length; texts])?;
    let (k, v) = (var(&[n, 3 * d])?, var(&[n, 3 * d])?);
    let (scored, table) = (var(&[32, h])?, values(&[words, h])?);
    let labels: Vec<u32> = (0..32).map(|i| i * 1009 % words as u32).collect();
    let rotate = |layout| kernels::rotary(&x, &cos, &sin, d, layout);
    for backward in [false, true] {
        let name = |op: &str| match backward {
            true => format!("{op}_and_backward"),
            false => op.to_owned(),
        };
        let rows = format!("{n}x{h}");
        let mut time = |op: &str, shape: &str, throughput, f: &dyn Fn() -> _| {
            bench(c, &name(op), shape, throughput, f, backward);
        };
        time("rms_norm", &rows, elements, &|| norm.forward(&x));
        for (layout, op) in [
            (RotaryLayout::HalfSplit, "rotary"),
            (RotaryLayout::Interleaved, "rotary_interleaved"),
        ] {
            time(op, &rows, elements, &|| rotate(layout));
        }
        time("swiglu", &format!("{n}x{i}"), (n * i) as u64, &|| {
            kernels::gated(&gate, &up, Activation::Swish)
        });
        // Throughput: operations of what is seen, half of all.
        let operations = (2 * texts * length * length * h * if backward { 3 } else { 1 }) as u64;
        let shape = format!("{texts}x{length}x{h}");
        time("causal_attention", &shape, operations, &|| {
            attention.forward(&x, &k, &v, &spans, &spans)
        });
        let operations = (2 * 32 * words * h * if backward { 2 } else { 1 }) as u64;
        let shape = format!("32x{h}x{words}");
        time("vocabulary_cross_entropy", &shape, operations, &|| {
            kernels::vocabulary_cross_entropy(&scored, &table, &labels)
        });
    }
    Ok(())
}
