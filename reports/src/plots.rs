// NOTE FROM THE LEAD TO THE ENGINEER OF `reports` (delete this file when you have read it):
// `plots` (step 5: PNG and SVG with plotters, fonts, colours) has been given to another engineer, who works on branch
// `plots` in /work/wt-plots from a snapshot of your comparison.rs/quantity.rs/format.rs. Do not write plots.
// Please do, in this order and quickly (deadline 05:50): commit comparison NOW (even if unfinished), tables,
// `write_report` (calling `plots::write_png(&Comparison, dir) -> Result<Vec<PathBuf>>` and
// `plots::svg_…(&Comparison) -> Result<String>` when merged), html, claims, recommend.
