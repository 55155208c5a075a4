//! Time and memory of LoRA training as batch, length and number of steps grow: `scale.csv` and `scale.png`.
//!
//! Every point is a process of its own, so that its peak memory is its own.

use std::{fmt::Write as _, fs, process::Command, time::Instant};

use anyhow::{Context, Result, bail};
use peftbench::{measure, train::model::Model};
use plotters::prelude::*;

use crate::common::{self, Steps, median};

/// One measured point.
struct Point {
    series: &'static str,
    batch: usize,
    length: usize,
    steps: usize,
    /// Milliseconds of a step, the median.
    milliseconds: f64,
    /// Peak resident memory in MB.
    peak: f64,
}

fn points() -> Vec<(&'static str, usize, usize, usize)> {
    let mut all = Vec::new();
    all.extend([8, 16, 32, 64, 128, 256].map(|batch| ("batch", batch, 32, 5)));
    all.extend([16, 32, 64, 128, 256, 512].map(|length| ("length", 8, length, 5)));
    all.extend([10, 100, 1_000, 10_000].map(|steps| ("steps", 4, 8, steps)));
    all
}

/// `scale-point SERIES BATCH LENGTH STEPS`: prints the median milliseconds and the peak in MB.
pub fn point(arguments: &[&str]) -> Result<()> {
    let [series, batch, length, steps] = arguments[..] else {
        bail!("scale-point SERIES BATCH LENGTH STEPS")
    };
    let (batch, length, steps): (usize, usize, usize) =
        (batch.parse()?, length.parse()?, steps.parse()?);
    let mut config = common::minilm_config();
    if series == "steps" {
        // Small, so that ten thousand steps take seconds.
        (
            config.layers,
            config.hidden,
            config.intermediate,
            config.vocabulary,
        ) = (2, 96, 384, 2_000);
    }
    let backbone = common::random_backbone(config)?;
    let resolved = methods::resolve("lora", &Default::default())?;
    let method = common::build(&resolved, &backbone)?;
    let head = common::head(&backbone)?;
    let mut training = Steps::new(Model::new(&backbone, &*method, &head), &resolved)?;
    let batch = common::batch(&vec![length; batch])?;
    let mut seconds = Vec::with_capacity(steps);
    training.step(&batch)?;
    for _ in 0..steps {
        let clock = Instant::now();
        training.step(&batch)?;
        seconds.push(clock.elapsed().as_secs_f64());
    }
    let peak = measure::peak_memory().context("this system does not tell the peak memory")?;
    println!(
        "{} {}",
        median(&seconds) * 1e3,
        peak as f64 / f64::from(1 << 20)
    );
    Ok(())
}

pub fn main() -> Result<()> {
    let mut measured = Vec::new();
    for (series, batch, length, steps) in points() {
        let output = Command::new(std::env::current_exe()?)
            .args(["--bench", "scale-point", series])
            .args([batch, length, steps].map(|n| n.to_string()))
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let numbers: Vec<f64> = text
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        let [milliseconds, peak] = numbers[..] else {
            bail!(
                "a point failed: {}",
                String::from_utf8_lossy(&output.stderr)
            )
        };
        eprintln!(
            "{series}: batch {batch}, length {length}, {steps} steps: {milliseconds:.2} ms, {peak:.0} MB"
        );
        measured.push(Point {
            series,
            batch,
            length,
            steps,
            milliseconds,
            peak,
        });
    }
    let mut csv = String::from("series,batch,length,steps,step_ms,peak_mb\n");
    for p in &measured {
        writeln!(
            csv,
            "{},{},{},{},{:.3},{:.1}",
            p.series, p.batch, p.length, p.steps, p.milliseconds, p.peak
        )?;
    }
    let out = common::out()?;
    fs::write(out.join("scale.csv"), &csv)?;
    plot(&measured, &out.join("scale.png"))?;
    println!("{csv}");
    eprintln!(
        "wrote {} and scale.png beside it",
        out.join("scale.csv").display()
    );
    Ok(())
}

/// What grows along the axis of a series.
fn growing(p: &Point) -> f64 {
    match p.series {
        "batch" => p.batch as f64,
        "length" => p.length as f64,
        _ => p.steps as f64,
    }
}

/// A column per series: time above, memory below. The places that were measured stand side by side, a factor of 2 or 10 apart.
fn plot(points: &[Point], path: &std::path::Path) -> Result<()> {
    const INK: RGBColor = RGBColor(0x1b, 0x1f, 0x24);
    const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xb2);
    const GRID: RGBColor = RGBColor(0xe1, 0xe4, 0xe8);
    let font =
        plotters::style::register_font("sans-serif", FontStyle::Normal, notosans::REGULAR_TTF);
    if font.is_err() {
        bail!("the font cannot be read");
    }
    let text = |size: u32| ("sans-serif", size).into_font().color(&INK);
    let (width, height) = (1800, 1050);
    let mut pixels = vec![0; (3 * width * height) as usize];
    let whole = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
    whole.fill(&WHITE)?;
    let area = whole.titled("Training LoRA as the work grows", text(32))?;
    let cells = area.split_evenly((2, 3));
    for (column, series) in ["batch", "length", "steps"].into_iter().enumerate() {
        let these: Vec<&Point> = points.iter().filter(|p| p.series == series).collect();
        let label = match series {
            "batch" => "examples in a batch (32 tokens each)",
            "length" => "tokens per example (8 examples)",
            _ => "steps made (small backbone)",
        };
        let value = |row: usize, p: &Point| if row == 0 { p.milliseconds } else { p.peak };
        for (row, what) in ["ms per step", "peak memory (MB)"].into_iter().enumerate() {
            let most = these.iter().map(|p| value(row, p)).fold(0.0, f64::max);
            let places = 0..these.len() - 1;
            let mut chart = ChartBuilder::on(&cells[3 * row + column])
                .margin(18)
                .margin_right(36)
                .caption(what, text(24))
                .x_label_area_size(64)
                .y_label_area_size(72)
                .build_cartesian_2d(places, 0.0..most * 1.1)?;
            chart
                .configure_mesh()
                .disable_x_mesh()
                .light_line_style(TRANSPARENT)
                .bold_line_style(GRID)
                .axis_style(INK)
                .x_desc(label)
                .x_labels(these.len())
                .x_label_formatter(&|i| {
                    these
                        .get(*i)
                        .map_or(String::new(), |p| format!("{}", growing(p)))
                })
                .y_labels(6)
                .y_label_formatter(&|y| {
                    if most < 2.0 {
                        format!("{y:.1}")
                    } else {
                        format!("{y:.0}")
                    }
                })
                .label_style(text(20))
                .axis_desc_style(text(20))
                .draw()?;
            let line = || these.iter().enumerate().map(|(i, p)| (i, value(row, p)));
            chart.draw_series(LineSeries::new(line(), BLUE.stroke_width(3)))?;
            chart.draw_series(line().map(|at| Circle::new(at, 6, BLUE.filled())))?;
        }
    }
    area.present()?;
    drop((cells, area, whole));
    let mut encoder = png::Encoder::new(fs::File::create(path)?, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(())
}
