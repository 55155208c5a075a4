//! Studies: one thing is varied, and a curve of the main metric is drawn over it.
//!
//! A study's folder holds `study.json`, the [`Manifest`] of what was asked (series of points, each the ids of
//! its runs), and the records. [`Study`] joins the two: per point a mean with interval over seeds and examples, the learning
//! curve, and the verdict against the point of the highest mean. That point is a choice made on the same numbers, so all pairs
//! of a series are tested together ([`statistics::Family`]); where seeds were added after looking, the error rate is spent over all
//! looks ([`statistics::Looks`]).

mod manifest;
mod point;
mod series;
mod study;
mod tables;
#[cfg(test)]
mod tests;

pub use manifest::{Axis, Manifest, PointPlan, Position, SeriesPlan};
pub use point::{CurvePoint, Point};
pub use series::{Series, kind_of, scored};
pub use study::{Study, read_all};
pub use tables::{latex, markdown, page_view, terminal, write};
