//! A drawing as a PDF of vectors: shapes as paths, letters as the outlines of the built-in font, so that every viewer and every
//! journal's checker shows the same and no font has to be there.

use std::io::Write;

use ab_glyph::{Font, FontRef, OutlineCurve, Point, ScaleFont};
use flate2::{Compression, write::ZlibEncoder};
use pdf_writer::{Content, Filter, Finish, Name, Pdf, Rect, Ref, TextStr, types::LineCapStyle};

use super::{
    scene::{Drawn, Form, Letters, Scene, Shape},
    style::Ink,
};

/// Points (1/72 inch) of a CSS pixel (1/96 inch).
const POINTS: f32 = 0.75;
/// From the middle of capital letters down to the line they stand on, in em.
const BASELINE: f64 = 0.357;
/// Control points of a quarter of a circle.
const QUARTER: f64 = 0.552_284_75;

impl Scene {
    /// As PDF, one page of the drawing's size.
    pub fn pdf(&self, title: &str) -> Drawn<Vec<u8>> {
        if let Some(noted) = self.with_note_of_missing_letters() {
            return noted.pdf(title);
        }
        let font = |bytes| FontRef::try_from_slice(bytes).map_err(|e| e.to_string());
        let fonts = [font(notosans::REGULAR_TTF)?, font(notosans::BOLD_TTF)?];
        let mut page = Page {
            content: Content::new(),
            height: self.height,
            opacities: Vec::new(),
        };
        for shape in &self.shapes {
            page.draw(shape, &fonts);
        }
        let opacities = page.opacities;
        let stream = deflated(&page.content.finish()).map_err(|e| e.to_string())?;

        let mut pdf = Pdf::new();
        let [catalog, pages, page, contents, info] = [1, 2, 3, 4, 5].map(Ref::new);
        pdf.catalog(catalog).pages(pages);
        pdf.pages(pages).kids([page]).count(1);
        pdf.document_info(info)
            .title(TextStr(title))
            .creator(TextStr("peftbench"));
        let mut made = pdf.page(page);
        let [width, height] = [self.width, self.height].map(|x| x as f32 * POINTS);
        let size = Rect::new(0.0, 0.0, width, height);
        made.parent(pages).media_box(size).contents(contents);
        let mut resources = made.resources();
        let mut states = resources.ext_g_states();
        for (i, _) in opacities.iter().enumerate() {
            states.pair(Name(&state(i)), Ref::new(6 + i as i32));
        }
        states.finish();
        resources.finish();
        made.finish();
        for (i, opacity) in opacities.iter().enumerate() {
            pdf.ext_graphics(Ref::new(6 + i as i32))
                .non_stroking_alpha(*opacity)
                .stroking_alpha(*opacity);
        }
        pdf.stream(contents, &stream).filter(Filter::FlateDecode);
        Ok(pdf.finish())
    }
}

fn deflated(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Name of the graphics state of an opacity.
fn state(i: usize) -> Vec<u8> {
    format!("O{i}").into_bytes()
}

struct Page {
    content: Content,
    height: f64,
    /// Every opacity that is used.
    opacities: Vec<f32>,
}

impl Page {
    /// A place in points from the bottom left.
    fn at(&self, [x, y]: [f64; 2]) -> [f32; 2] {
        [x as f32 * POINTS, (self.height - y) as f32 * POINTS]
    }

    fn paint(&mut self, ink: Ink, opacity: f64) {
        let [r, g, b] = ink.rgb().map(|c| f32::from(c) / 255.0);
        self.content.set_fill_rgb(r, g, b).set_stroke_rgb(r, g, b);
        let opacity = opacity as f32;
        let known = self.opacities.iter().position(|o| *o == opacity);
        let i = known.unwrap_or_else(|| {
            self.opacities.push(opacity);
            self.opacities.len() - 1
        });
        self.content.set_parameters(Name(&state(i)));
    }

    fn path(&mut self, points: &[[f64; 2]]) {
        for (i, point) in points.iter().enumerate() {
            let [x, y] = self.at(*point);
            match i {
                0 => self.content.move_to(x, y),
                _ => self.content.line_to(x, y),
            };
        }
    }

    fn draw(&mut self, shape: &Shape, fonts: &[FontRef<'_>; 2]) {
        self.paint(shape.ink, shape.opacity);
        match &shape.form {
            Form::Line { points, width } => {
                self.content
                    .set_line_width(*width as f32 * POINTS)
                    .set_line_cap(LineCapStyle::ButtCap);
                self.path(points);
                self.content.stroke();
            }
            Form::Area(points) => {
                self.path(points);
                self.content.close_path().fill_nonzero();
            }
            Form::Dot { at: [x, y], radius } => {
                let place = |dx: f64, dy: f64| self.at([x + dx * radius, y + dy * radius]);
                let q = QUARTER;
                let arcs = [
                    [[1.0, q], [q, 1.0], [0.0, 1.0]],
                    [[-q, 1.0], [-1.0, q], [-1.0, 0.0]],
                    [[-1.0, -q], [-q, -1.0], [0.0, -1.0]],
                    [[q, -1.0], [1.0, -q], [1.0, 0.0]],
                ]
                .map(|arc| arc.map(|[dx, dy]| place(dx, dy)));
                let start = place(1.0, 0.0);
                self.content.move_to(start[0], start[1]);
                for [a, b, c] in arcs {
                    self.content.cubic_to(a[0], a[1], b[0], b[1], c[0], c[1]);
                }
                self.content.fill_nonzero();
            }
            Form::Text(letters) => self.write(letters, &fonts[usize::from(letters.bold)]),
        }
    }

    fn write(&mut self, letters: &Letters, font: &FontRef<'_>) {
        let Some(units) = font.units_per_em() else {
            return;
        };
        let (text, em) = (&letters.text, letters.em);
        let scale = em / f64::from(units);
        let unscaled = font.as_scaled(font.height_unscaled());
        let advance = |c: char| f64::from(unscaled.h_advance(font.glyph_id(c))) * scale;
        let mut left = letters.left(text.chars().map(advance).sum());
        let line = letters.at[1] + BASELINE * em;
        for c in text.chars() {
            if let Some(outline) = font.outline(font.glyph_id(c)) {
                let place = |p: Point| {
                    self.at([left + f64::from(p.x) * scale, line - f64::from(p.y) * scale])
                };
                let curves = outline.curves.iter().map(|curve| cubic(curve).map(place));
                let curves: Vec<[[f32; 2]; 4]> = curves.collect();
                let mut end = None;
                for [a, b, c, d] in curves {
                    if end != Some(a) {
                        self.content.move_to(a[0], a[1]);
                    }
                    self.content.cubic_to(b[0], b[1], c[0], c[1], d[0], d[1]);
                    end = Some(d);
                }
                self.content.fill_nonzero();
            }
            left += advance(c);
        }
    }
}

/// Any piece of an outline as a cubic curve.
fn cubic(curve: &OutlineCurve) -> [Point; 4] {
    let between = |a: Point, b: Point, t: f32| Point {
        x: a.x + (b.x - a.x) * t,
        y: a.y + (b.y - a.y) * t,
    };
    match *curve {
        OutlineCurve::Line(a, b) => [a, a, b, b],
        OutlineCurve::Quad(a, c, b) => [a, between(a, c, 2.0 / 3.0), between(b, c, 2.0 / 3.0), b],
        OutlineCurve::Cubic(a, c, d, b) => [a, c, d, b],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::figures::scene::Anchor;

    #[test]
    fn a_pdf_has_the_size_of_the_drawing_and_paths_for_its_shapes_and_letters() {
        let mut scene = Scene::new(200.0, 100.0);
        scene.line([[10.0, 10.0], [190.0, 10.0]], Ink::Text, 2.0);
        scene.dot([50.0, 50.0], 5.0, Ink::Text, 0.5);
        let empty = scene.pdf("drawing").unwrap();
        scene.text([100.0, 50.0], "LoRA", Anchor::Middle);
        let pdf = scene.pdf("drawing").unwrap();
        assert!(pdf.starts_with(b"%PDF-1.7") && pdf.ends_with(b"%%EOF"));
        let text = String::from_utf8_lossy(&pdf);
        assert!(text.contains("/MediaBox [0 0 150 75]"), "{text}");
        assert!(text.contains("/ca 0.5") && !text.contains("/Font"));
        assert!(pdf.len() > empty.len() + 200);
    }
}
