//! A figure in its layouts.

use serde::Serialize;

use super::{
    layout::{NARROW, PAGE, WIDE},
    scene::{self, Scene},
};
use crate::Result;

/// The numbers of a figure, worked out once, which can be drawn at any width.
pub(super) trait Figure {
    /// Draws them under a title.
    fn draw(&self, title: &str, width: f64) -> Scene;

    /// What they say, in words with figures, for each of what is shown.
    fn description(&self) -> Vec<String>;
}

/// A plot.
#[derive(Clone, Debug)]
pub struct Plot {
    /// Name for file names, e.g. `accuracy-parameters`.
    pub name: String,
    /// Heading.
    pub title: String,
    /// What it shows, in words with figures, for those who can't see it.
    pub description: String,
    pub(super) wide: Scene,
    pub(super) page: Scene,
    pub(super) narrow: Scene,
}

impl Plot {
    /// A figure in every layout, under the heading of what it is of; `None` without a figure.
    pub(super) fn of(
        heading: &str,
        name: &str,
        title: &str,
        figure: Option<impl Figure>,
    ) -> Option<Self> {
        let figure = figure?;
        Some(Self {
            name: name.to_owned(),
            title: title.to_owned(),
            description: format!("{title}, {heading}. {}", figure.description().join("; ")),
            wide: figure.draw(title, WIDE),
            page: figure.draw(title, PAGE),
            narrow: figure.draw(title, NARROW),
        })
    }

    /// A PNG of 1600 pixels width.
    ///
    /// # Errors
    /// If the drawing library refuses; not expected.
    pub fn png(&self) -> Result<Vec<u8>> {
        scene::named(&self.name, self.wide.png())
    }

    /// Its files by their endings: for looking at, for the web, for papers (a PDF of vectors).
    ///
    /// # Errors
    /// If the drawing library refuses, or the built-in font cannot be read; not expected.
    pub fn files(&self) -> Result<[(&'static str, Vec<u8>); 3]> {
        let svg = scene::named(&self.name, self.wide.svg(&self.description))?;
        let svg = match svg.contains("xmlns=") {
            true => svg,
            false => svg.replacen("<svg ", "<svg xmlns=\"http://www.w3.org/2000/svg\" ", 1),
        };
        let pdf = scene::named(&self.name, self.wide.pdf(&self.title))?;
        Ok([
            ("png", self.png()?),
            ("svg", svg.into_bytes()),
            ("pdf", pdf),
        ])
    }

    /// An SVG element that takes the width of its place; laid out for a page.
    ///
    /// # Errors
    /// If the drawing library refuses; not expected.
    pub fn svg(&self) -> Result<String> {
        scene::named(&self.name, self.page.svg(&self.description))
    }

    /// The same, laid out for a phone.
    ///
    /// # Errors
    /// If the drawing library refuses; not expected.
    pub fn narrow_svg(&self) -> Result<String> {
        scene::named(&self.name, self.narrow.svg(&self.description))
    }

    /// As the page shows it.
    pub(crate) fn view(&self) -> Result<PlotView> {
        Ok(PlotView {
            name: self.name.clone(),
            wide: self.svg()?,
            narrow: self.narrow_svg()?,
        })
    }
}

/// A plot in the page: an SVG for wide screens and one for phones.
#[derive(Serialize)]
pub(crate) struct PlotView {
    name: String,
    wide: String,
    narrow: String,
}
