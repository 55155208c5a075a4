//! A drawing as a list of shapes, laid out once and rendered as PNG or SVG by plotters.
//!
//! Positions are in CSS pixels from the top left. Laying out and rendering are apart so that both
//! formats show the same, and tests can ask whether two texts overlap.

use std::sync::LazyLock;

use ab_glyph::Font;
use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Polygon, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontDesc, FontStyle, IntoFont, RGBColor, ShapeStyle, register_font};

use super::style::{BODY, Ink, MARGIN, SMALL, Style};
use crate::{Error, Result};

/// What drawing gives, or what the libraries said.
pub(super) type Drawn<T> = std::result::Result<T, String>;

/// Pixels of a file per CSS pixel: a plot is sharp on a dense screen and readable at half size.
const SCALE: f64 = 2.0;
/// Each pixel of a PNG is the mean of this many squared: plotters smooths only thin lines.
const SUPERSAMPLING: usize = 2;
const FONT: &str = "sans-serif";

/// What a size means to the backends, and how far text has to be moved down so that it stands
/// centred: plotters sizes bitmaps by ascent + descent (1.362 em in Noto Sans), SVG by 1.24 em.
#[derive(Clone, Copy)]
struct TextMetrics {
    size_per_em: f64,
    down_em: f64,
}
const BITMAP_TEXT: TextMetrics = TextMetrics {
    size_per_em: 1.362,
    down_em: 0.218,
};
const SVG_TEXT: TextMetrics = TextMetrics {
    size_per_em: 1.24,
    down_em: 0.08,
};

/// Which point of a text stands at its position; vertically it is always the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// Something drawn in one ink.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub ink: Ink,
    pub opacity: f64,
    pub form: Form,
}

#[derive(Clone, Debug)]
pub(super) enum Form {
    Line { points: Vec<[f64; 2]>, width: f64 },
    Area(Vec<[f64; 2]>),
    Dot { at: [f64; 2], radius: f64 },
    Text(Letters),
}

/// A text at its place.
#[derive(Clone, Debug)]
pub(super) struct Letters {
    pub at: [f64; 2],
    pub text: String,
    pub em: f64,
    pub bold: bool,
    pub anchor: Anchor,
}

impl Letters {
    /// Where it begins, if it is so wide.
    pub fn left(&self, width: f64) -> f64 {
        match self.anchor {
            Anchor::Start => self.at[0],
            Anchor::Middle => self.at[0] - width / 2.0,
            Anchor::End => self.at[0] - width,
        }
    }
}

/// A rectangle: left, top, right, bottom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Area {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

impl Area {
    pub fn overlaps(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    pub fn contains(&self, other: &Self) -> bool {
        self.left <= other.left
            && other.right <= self.right
            && self.top <= other.top
            && other.bottom <= self.bottom
    }

    /// Between the upper left and the lower right corner.
    pub fn between([left, top]: [f64; 2], [right, bottom]: [f64; 2]) -> Self {
        Self {
            left,
            top,
            right,
            bottom,
        }
    }

    pub fn around([left, top]: [f64; 2], x: f64, y: f64) -> Self {
        Self::between([left, top], [left, top]).grown(x, y)
    }

    /// With so much more on either side, and above and below.
    pub fn grown(&self, x: f64, y: f64) -> Self {
        let upper_left = [self.left - x, self.top - y];
        Self::between(upper_left, [self.right + x, self.bottom + y])
    }
}

/// A drawing.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub width: f64,
    pub height: f64,
    pub shapes: Vec<Shape>,
}

impl Scene {
    pub fn new(width: f64, height: f64) -> Self {
        Self {
            width,
            height,
            shapes: Vec::new(),
        }
    }

    fn push(&mut self, ink: Ink, opacity: f64, form: Form) {
        self.shapes.push(Shape { ink, opacity, form });
    }

    pub fn line(&mut self, points: impl Into<Vec<[f64; 2]>>, ink: Ink, width: f64) {
        self.faint_line(points, ink, width, 1.0);
    }

    pub fn faint_line(
        &mut self,
        points: impl Into<Vec<[f64; 2]>>,
        ink: Ink,
        width: f64,
        opacity: f64,
    ) {
        let points = points.into();
        self.push(ink, opacity, Form::Line { points, width });
    }

    /// A straight dashed line.
    pub fn dashes(&mut self, [a, b]: [[f64; 2]; 2], ink: Ink, width: f64) {
        let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
        let length = dx.hypot(dy);
        let (dash, gap) = (6.0, 4.0);
        let mut from = 0.0;
        while from < length {
            let to = (from + dash).min(length);
            let at = |d: f64| [a[0] + dx * d / length, a[1] + dy * d / length];
            self.line([at(from), at(to)], ink, width);
            from += dash + gap;
        }
    }

    pub fn area(&mut self, points: Vec<[f64; 2]>, ink: Ink, opacity: f64) {
        self.push(ink, opacity, Form::Area(points));
    }

    pub fn rectangle(&mut self, area: Area, ink: Ink, opacity: f64) {
        let (l, t, r, b) = (area.left, area.top, area.right, area.bottom);
        self.area(vec![[l, t], [r, t], [r, b], [l, b]], ink, opacity);
    }

    pub fn dot(&mut self, at: [f64; 2], radius: f64, ink: Ink, opacity: f64) {
        self.push(ink, opacity, Form::Dot { at, radius });
    }

    /// A method's marker with a rim of paper, so that it stands off what it covers.
    pub fn marker(&mut self, at: [f64; 2], radius: f64, style: Style) {
        self.area(placed(style, at, radius + 1.5), Ink::Paper, 1.0);
        self.area(placed(style, at, radius), style.ink, 1.0);
    }

    /// A method's marker with paper inside.
    pub fn hollow_marker(&mut self, at: [f64; 2], radius: f64, style: Style) {
        self.area(placed(style, at, radius), style.ink, 1.0);
        self.area(placed(style, at, radius - 2.0), Ink::Paper, 1.0);
    }

    /// A name, a value or the title of an axis.
    pub fn text(&mut self, at: [f64; 2], text: &str, anchor: Anchor) {
        self.write(at, text, BODY, anchor, Ink::Text, false);
    }

    /// What stands small and grey: a note, a number on an axis.
    pub fn note(&mut self, at: [f64; 2], text: &str, anchor: Anchor) {
        self.write(at, text, SMALL, anchor, Ink::Muted, false);
    }

    pub fn write(
        &mut self,
        at: [f64; 2],
        text: &str,
        em: f64,
        anchor: Anchor,
        ink: Ink,
        bold: bool,
    ) {
        let text = crate::format::visible(text);
        let letters = Letters {
            at,
            text,
            em,
            bold,
            anchor,
        };
        self.push(ink, 1.0, Form::Text(letters));
    }

    /// The texts and the room that they take.
    #[cfg(test)]
    pub fn texts(&self) -> Vec<(&str, Area)> {
        let room = |letters: &Letters| {
            let width = text_width(&letters.text, letters.em, letters.bold);
            let (left, y) = (letters.left(width), letters.at[1]);
            Area::between([left, y], [left + width, y]).grown(0.0, letters.em / 2.0)
        };
        let texts = self.shapes.iter().filter_map(|shape| match &shape.form {
            Form::Text(letters) => Some((letters.text.as_str(), room(letters))),
            _ => None,
        });
        texts.collect()
    }

    /// As an SVG element that takes the width of its place.
    pub fn svg(&self, label: &str) -> Drawn<String> {
        register_fonts()?;
        let mut svg = String::new();
        {
            let size = self.pixels(SCALE);
            let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
            self.render(&area, SCALE, SVG_TEXT)?;
        }
        // The size comes from the place, and the drawing is one image with a name for who can't see it.
        let start = svg.find("viewBox").ok_or("no viewBox in the SVG")?;
        let (label, rest) = (escape(label), &svg[start..]);
        Ok(format!("<svg role=\"img\" aria-label=\"{label}\" {rest}"))
    }

    /// The drawing with `?` for every letter that the built-in font does not have, and a note below; nothing if it has all.
    pub fn with_note_of_missing_letters(&self) -> Option<Self> {
        let font = ab_glyph::FontRef::try_from_slice(notosans::REGULAR_TTF).ok()?;
        let known = |c: char| c.is_whitespace() || font.glyph_id(c).0 != 0;
        let (mut noted, mut missing) = (self.clone(), false);
        for shape in &mut noted.shapes {
            if let Form::Text(letters) = &mut shape.form {
                missing |= !letters.text.chars().all(known);
                letters.text = letters.text.replace(|c| !known(c), "?");
            }
        }
        if !missing {
            return None;
        }
        let text = "The built-in font lacks some letters; the SVG and the page show them.";
        let text = fit(text, SMALL, self.width - 2.0 * MARGIN);
        noted.note([MARGIN, self.height + 4.0], &text, Anchor::Start);
        noted.height += 20.0;
        Some(noted)
    }

    /// As PNG. Letters that the built-in font does not have are drawn as `?`, which a note says: an SVG takes the reader's
    /// own font for them, and a font with all of Chinese, Japanese and Korean would double the program's size.
    pub fn png(&self) -> Drawn<Vec<u8>> {
        register_fonts()?;
        if let Some(noted) = self.with_note_of_missing_letters() {
            return noted.png();
        }
        let (width, height) = self.pixels(SCALE);
        let [w, h] = [width, height].map(|x| x as usize);
        let fine = SUPERSAMPLING;
        let mut pixels = vec![0u8; w * h * 3 * fine * fine];
        {
            let size = ((w * fine) as u32, (h * fine) as u32);
            let area = BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area();
            self.render(&area, SCALE * fine as f64, BITMAP_TEXT)?;
        }
        let mut small = Vec::with_capacity(w * h * 3);
        let (row, n) = (w * 3 * fine, (fine * fine) as u32);
        for rows in pixels.chunks_exact(row * fine) {
            for place in 0..w * 3 {
                let first = place / 3 * 3 * fine + place % 3;
                let mut sum = 0;
                for y in 0..fine {
                    for x in 0..fine {
                        sum += u32::from(rows[y * row + first + 3 * x]);
                    }
                }
                small.push(((sum + n / 2) / n) as u8);
            }
        }
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_compression(png::Compression::Default);
        // 2 × 96 dots per inch, so that a viewer that honours it shows CSS pixels.
        encoder.set_pixel_dims(Some(png::PixelDimensions {
            xppu: 7559,
            yppu: 7559,
            unit: png::Unit::Meter,
        }));
        let mut writer = encoder.write_header().map_err(|e| e.to_string())?;
        writer.write_image_data(&small).map_err(|e| e.to_string())?;
        writer.finish().map_err(|e| e.to_string())?;
        Ok(file)
    }

    fn pixels(&self, scale: f64) -> (u32, u32) {
        let whole = |x: f64| (x * scale).round().max(1.0) as u32;
        (whole(self.width), whole(self.height))
    }

    fn render<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        scale: f64,
        metrics: TextMetrics,
    ) -> Drawn<()> {
        let pixel = |[x, y]: [f64; 2]| ((x * scale).round() as i32, (y * scale).round() as i32);
        let color = |ink: Ink, opacity: f64| {
            let [r, g, b] = ink.rgb();
            RGBColor(r, g, b).mix(opacity)
        };
        let fail = |e: &dyn std::fmt::Display| e.to_string();
        area.fill(&color(Ink::Paper, 1.0)).map_err(|e| fail(&e))?;
        for shape in &self.shapes {
            let color = color(shape.ink, shape.opacity);
            let pixels = |points: &[[f64; 2]]| points.iter().map(|&p| pixel(p)).collect::<Vec<_>>();
            let drawn = match &shape.form {
                Form::Line { points, width } => {
                    let style = ShapeStyle {
                        color,
                        filled: false,
                        stroke_width: (width * scale).round().max(1.0) as u32,
                    };
                    area.draw(&PathElement::new(pixels(points), style))
                }
                Form::Area(points) => area.draw(&Polygon::new(pixels(points), color.filled())),
                Form::Dot { at, radius } => {
                    let radius = (radius * scale).round() as i32;
                    area.draw(&Circle::new(pixel(*at), radius, color.filled()))
                }
                Form::Text(letters) => {
                    let em = letters.em;
                    let size = em * scale * metrics.size_per_em;
                    let h = match letters.anchor {
                        Anchor::Start => HPos::Left,
                        Anchor::Middle => HPos::Center,
                        Anchor::End => HPos::Right,
                    };
                    let style = font(size, letters.bold).color(&color);
                    let style = style.pos(Pos::new(h, VPos::Center));
                    let at = [letters.at[0], letters.at[1] + metrics.down_em * em];
                    area.draw(&Text::new(letters.text.as_str(), pixel(at), style))
                }
            };
            drawn.map_err(|e| fail(&e))?;
        }
        area.present().map_err(|e| fail(&e))
    }
}

/// A font of this size, in bold or not.
fn font(size: f64, bold: bool) -> FontDesc<'static> {
    let weight = match bold {
        true => FontStyle::Bold,
        false => FontStyle::Normal,
    };
    (FONT, size, weight).into_font()
}

fn placed(style: Style, at: [f64; 2], radius: f64) -> Vec<[f64; 2]> {
    let outline = style.marker.outline().into_iter();
    let placed = outline.map(|[x, y]| [at[0] + radius * x, at[1] + radius * y]);
    placed.collect()
}

/// Width of a text in CSS pixels, a little generously: a reader's font may be wider than ours.
pub(super) fn text_width(text: &str, em: f64, bold: bool) -> f64 {
    // Measured large, because the library rounds to whole pixels.
    const MEASURE: f64 = 100.0;
    let font = font(MEASURE * BITMAP_TEXT.size_per_em, bold);
    let width = match register_fonts().map(|()| font.layout_box(text)) {
        Ok(Ok(((left, _), (right, _)))) => f64::from(right - left),
        // Cannot happen with a registered font; an estimate is good enough for a layout.
        _ => 0.6 * MEASURE * text.chars().count() as f64,
    };
    1.06 * width * em / MEASURE
}

/// The text, with an ellipsis in its middle where it is wider than this: names often begin alike and differ at their end.
pub(super) fn fit(text: &str, em: f64, width: f64) -> String {
    if text_width(text, em, false) <= width {
        return text.to_owned();
    }
    (1..text.chars().count())
        .rev()
        .map(|n| crate::format::cut(text, n))
        .find(|short| text_width(short, em, false) <= width)
        .unwrap_or_else(|| "…".to_owned())
}

/// The text in lines that are not wider than this, broken at spaces.
pub(super) fn wrap(text: &str, em: f64, width: f64) -> Vec<String> {
    let words = text.split_whitespace().map(str::to_owned);
    let lines = crate::format::lines(words, |line| text_width(line, em, false) <= width);
    lines.iter().map(|line| fit(line, em, width)).collect()
}

/// Fonts are compiled in: a plot looks the same on a machine without any.
fn register_fonts() -> Drawn<()> {
    static REGISTERED: LazyLock<bool> = LazyLock::new(|| {
        let register = |style, font| register_font(FONT, style, font).is_ok();
        register(FontStyle::Normal, notosans::REGULAR_TTF)
            && register(FontStyle::Bold, notosans::BOLD_TTF)
    });
    match *REGISTERED {
        true => Ok(()),
        false => Err("the font that is compiled in cannot be read".to_owned()),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('<', "&lt;")
}

/// With the plot's name.
pub(super) fn named<T>(plot: &str, result: Drawn<T>) -> Result<T> {
    result.map_err(|problem| Error::Plot {
        plot: plot.to_owned(),
        problem,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn letters_that_the_font_lacks_are_noted_in_a_png_and_kept_in_an_svg() {
        let scene = |text: &str| {
            let mut scene = Scene::new(200.0, 40.0);
            scene.text([10.0, 20.0], text, Anchor::Start);
            scene
        };
        let height = |scene: &Scene| {
            let png = scene.png().unwrap();
            png::Decoder::new(png.as_slice())
                .read_info()
                .unwrap()
                .info()
                .height
        };
        assert_eq!(height(&scene("Größe, ά, я")), 80);
        assert_eq!(height(&scene("评论")), 120);
        assert!(scene("评论").svg("").unwrap().contains("评论"));
    }
}
