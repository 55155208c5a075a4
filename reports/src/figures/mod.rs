//! Plots of comparisons, studies and searches, as PNG, SVG and PDF.
//!
//! What holds for all of them: units on the axes; a mark per method (its colour and marker,
//! [`style::style`]) that is the same everywhere; names beside the marks instead of a legend; the
//! spread over seeds; a stand-in data set said in the heading and the file name; methods that are not
//! ranked named under the plot instead of drawn. Every plot is laid out three times: for a file,
//! for a page and for a phone.

mod axis;
mod bars;
mod curves;
mod labels;
mod latency;
mod layout;
mod lines;
mod pdf;
mod plot;
mod ranking;
mod scatter;
mod scene;
mod search;
mod study;
pub mod style;
mod trade_off;

use crate::{comparison::Comparison, format, quantity::Quantity};
use bars::Bars;
use curves::Curves;
use latency::Latencies;
use ranking::Ranking;
use scatter::Scatter;
use trade_off::TradeOff;

pub(crate) use layout::{scale_limit, style_of};
pub use plot::Plot;
pub(crate) use plot::PlotView;
pub use search::tuning_plot;
pub use study::study_plots;

/// The plots of a comparison for which there is anything to show: ranking, accuracy against
/// parameters, training loss, validation curve, training time, latency, peak memory.
pub fn plots(comparison: &Comparison) -> Vec<Plot> {
    let metric = comparison.metric();
    let name = format::metric_name(metric);
    let heading = &comparison.name;
    let (file, title) = (
        format!("{metric}-ranking"),
        format!("Validation {name}, best first"),
    );
    let ranking = Plot::of(heading, &file, &title, Ranking::of(comparison));
    let (file, title) = (format!("{metric}-parameters"), capital(&name));
    let title = format!("{title} against trained parameters");
    let trade_off = TradeOff::of(comparison, [Quantity::Parameters, Quantity::Metric]);
    let trade_off = Plot::of(heading, &file, &title, trade_off);
    let losses = Curves::losses(comparison);
    let losses = Plot::of(heading, "training-loss", "Training loss", losses);
    let (file, title) = (
        format!("validation-{metric}"),
        format!("Validation {name} while training"),
    );
    let metrics = Plot::of(heading, &file, &title, Curves::metrics(comparison));
    let (title, numbers) = ("Predicted and true numbers", Scatter::of(comparison));
    let numbers = Plot::of(heading, "predicted-numbers", title, numbers);
    let time = Bars::of(comparison, Quantity::TrainingTime);
    let time = Plot::of(heading, "training-time", "Training time", time);
    let latency = Latencies::of(comparison);
    let latency = Plot::of(heading, "latency", "Latency of one sentence", latency);
    let (title, memory) = (
        "Peak memory while training",
        Bars::of(comparison, Quantity::PeakMemory),
    );
    let memory = Plot::of(heading, "peak-memory", title, memory);
    let all = [
        ranking, trade_off, losses, metrics, numbers, time, latency, memory,
    ];
    all.into_iter().flatten().collect()
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    first.chain(chars).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{scene::Area, style::style, *};
    use crate::sample::{self, Sample};
    use record::RunRecord;

    fn comparison(records: &[RunRecord]) -> Comparison {
        let mut all = Comparison::from_records(records);
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    /// In every layout: every text is on the layout, and no two overlap.
    fn assert_readable(comparison: &Comparison) {
        for plot in plots(comparison) {
            for scene in [&plot.wide, &plot.page, &plot.narrow] {
                let layout = Area::between([0.0, 0.0], [scene.width, scene.height]);
                let texts = scene.texts();
                for (i, (text, area)) in texts.iter().enumerate() {
                    let at = format!("{} at width {}: `{text}` {area:?}", plot.name, scene.width);
                    assert!(layout.contains(area), "{at} is not on the layout");
                    for (other, its_area) in &texts[..i] {
                        assert!(
                            !area.overlaps(its_area),
                            "{at} covers `{other}` {its_area:?}"
                        );
                    }
                }
            }
        }
    }

    fn texts(plot: &Plot) -> Vec<String> {
        let texts = plot.wide.texts();
        texts.into_iter().map(|(text, _)| text.to_owned()).collect()
    }

    fn named<'a>(plots: &'a [Plot], name: &str) -> &'a Plot {
        plots.iter().find(|p| p.name == name).unwrap()
    }

    #[test]
    fn every_plot_names_every_method_and_the_unit_of_its_axis() {
        let plots = plots(&comparison(&sample::realistic_comparison(&sample::FIVE, 3)));
        let expected = [
            ("accuracy-ranking", "accuracy (%)"),
            ("accuracy-parameters", "accuracy (%)"),
            ("training-loss", "training loss (cross-entropy, nats)"),
            ("validation-accuracy", "accuracy (%)"),
            ("training-time", "training time (s)"),
            ("latency", "latency, batch of 1 real sentence (ms)"),
            ("peak-memory", "peak memory in training (MB)"),
        ];
        let found: Vec<&str> = plots.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(found, expected.map(|(name, _)| name));
        for (plot, (_, unit)) in plots.iter().zip(expected) {
            let texts = texts(plot);
            for text in sample::FIVE.into_iter().chain([unit]) {
                assert!(
                    texts.iter().any(|t| t == text),
                    "{} lacks {text}: {texts:?}",
                    plot.name
                );
            }
        }
        let texts = texts(named(&plots, "accuracy-parameters"));
        assert!(texts.iter().any(|t| t == "trained parameters, head apart"));
    }

    #[test]
    fn five_methods_are_readable_with_one_seed_and_with_three() {
        for seeds in [1, 3] {
            assert_readable(&comparison(&sample::realistic_comparison(
                &sample::FIVE,
                seeds,
            )));
        }
    }

    #[test]
    fn twenty_methods_are_readable() {
        assert_readable(&comparison(&sample::realistic_comparison(
            &sample::twenty(),
            3,
        )));
    }

    #[test]
    fn many_variants_of_one_method_are_readable() {
        let mut records = sample::realistic_comparison(&sample::FIVE, 2);
        for rank in [1, 2, 4, 16, 32] {
            for seed in 0..2 {
                let variant =
                    format!("rank={rank} target_modules=[query,key,value,attention_output]");
                let config = serde_json::json!({ "rank": rank });
                let run = sample::realistic("lora", seed).parameters(9216 * rank);
                records.push(run.variant(&variant, config).record());
            }
        }
        assert_readable(&comparison(&records));
    }

    #[test]
    fn one_method_alone_is_plotted_too() {
        for method in ["lora", "head_only"] {
            let comparison = comparison(&sample::realistic_comparison(&[method], 1));
            assert_eq!(plots(&comparison).len(), 7);
            assert_readable(&comparison);
        }
    }

    #[test]
    fn nothing_is_plotted_where_nothing_ended_well() {
        let run = Sample::new("lora").ended(record::Status::Interrupted);
        assert!(plots(&comparison(&[run.record()])).is_empty());
    }

    #[test]
    fn what_is_not_ranked_is_named_under_the_plot_and_not_drawn() {
        let comparison = comparison(&sample::troubled_comparison(2));
        assert_readable(&comparison);
        for plot in plots(&comparison) {
            let all = texts(&plot);
            assert!(!all.iter().any(|t| t == "bitfit"), "{}", plot.name);
            let all = all.join(" ");
            for note in ["bitfit (invalid)", "ia3 (no run ended well)"] {
                assert!(all.contains(note), "{}: {all}", plot.name);
            }
        }
    }

    #[test]
    fn a_stand_in_is_said_in_every_plot() {
        let records = sample::realistic_comparison(&sample::FIVE, 1);
        let records = sample::on_data(records, "movie_snippets", Some("sst2"));
        let comparison = comparison(&records);
        for plot in plots(&comparison) {
            let all = texts(&plot).join(" ");
            assert!(all.contains("sst2 → movie_snippets (stand-in)"), "{all}");
            assert!(plot.description.contains("stand-in"));
        }
    }

    #[test]
    fn what_would_squeeze_all_others_together_is_named_below_the_scale() {
        let plots = plots(&comparison(&sample::realistic_comparison(
            &sample::twenty(),
            3,
        )));
        for name in ["accuracy-parameters", "validation-accuracy"] {
            let texts = texts(named(&plots, name));
            assert!(!texts.iter().any(|t| t == "majority"), "{name}");
            let all = texts.join(" ");
            assert!(
                all.contains("Below the scale: random_features (58")
                    && all.contains("majority (50"),
                "{all}"
            );
        }
        // The ranking has a line and a value for every method.
        assert!(
            texts(named(&plots, "accuracy-ranking"))
                .iter()
                .any(|t| t == "majority")
        );
    }

    #[test]
    fn a_method_without_parameters_stands_at_zero_behind_a_break() {
        let plots = plots(&comparison(&sample::realistic_comparison(&sample::FIVE, 3)));
        let texts = texts(named(&plots, "accuracy-parameters"));
        assert!(
            texts.iter().any(|t| t == "0") && texts.iter().any(|t| t == "100 k"),
            "{texts:?}"
        );
        assert!(texts.join(" ").contains("The axis is broken"));
    }

    #[test]
    fn a_file_is_a_png_of_1600_pixels_and_an_svg_with_a_description() {
        let comparison = comparison(&sample::realistic_comparison(&sample::FIVE, 3));
        let plots = plots(&comparison);
        let plot = named(&plots, "accuracy-parameters");
        let png = plot.png().unwrap();
        let decoder = png::Decoder::new(png.as_slice());
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!(info.width, 1600);
        // The markers' colours are in it.
        for method in sample::FIVE {
            let rgb = style(method, sample::realistic(method, 0).record().kind.as_ref())
                .ink
                .rgb();
            assert!(pixels.chunks(3).any(|p| p == rgb), "{method} is not drawn");
        }
        let svg = plot.svg().unwrap();
        assert!(svg.starts_with(
            "<svg role=\"img\" aria-label=\"Accuracy against trained parameters, sst2 · minilm."
        ));
        assert!(svg.contains("prompt_tuning: 8") && svg.trim_end().ends_with("</svg>"));
        assert!(plot.narrow_svg().unwrap().contains("viewBox=\"0 0 720 "));
    }

    #[test]
    fn on_an_unsteady_machine_each_method_has_its_own_backbone_as_reference() {
        let timed = |method: &str, slower: f64| {
            let run = Sample::new(method).latency("backbone", 4.0 * slower, 6.0 * slower);
            run.latency("unmerged", 5.0 * slower, 7.0 * slower).record()
        };
        let of = |slower: f64| {
            let plots = plots(&comparison(&[timed("lora", 1.0), timed("adapter", slower)]));
            texts(named(&plots, "latency")).join(" ")
        };
        assert!(of(1.05).contains("Dashed line: the bare backbone's median."));
        let unsteady = of(2.0);
        assert!(
            unsteady.contains("It ranged from 4.00 to 8.00 ms"),
            "{unsteady}"
        );
        assert!(!unsteady.contains("Dashed line"));
    }

    #[test]
    fn a_curve_says_on_how_many_examples_it_was_judged_where_that_is_not_all() {
        let said = |examples| {
            let run = Sample::new("lora").with(|r| {
                r.outcome.as_mut().unwrap().evaluations[0].examples = examples;
            });
            let plots = plots(&comparison(&[run.record()]));
            texts(named(&plots, "validation-accuracy")).join(" ")
        };
        let some = "Before the last step 4 of 10 examples are judged, always the same.";
        assert!(said(Some(4)).contains(some), "{}", said(Some(4)));
        assert!(!said(None).contains("are judged"));
    }

    #[test]
    fn a_single_evaluation_is_no_curve() {
        let run = Sample::new("lora").with(|r| {
            r.outcome.as_mut().unwrap().evaluations.remove(0);
        });
        let plots = plots(&comparison(&[run.record()]));
        assert!(plots.iter().all(|p| p.name != "validation-accuracy"));
        assert!(plots.iter().any(|p| p.name == "training-loss"));
    }
}
