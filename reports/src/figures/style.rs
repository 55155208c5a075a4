//! Colour and marker of a method: the same in every plot, and not moved by methods that come later.
//!
//! Twenty methods cannot have twenty colours that everybody can tell apart. So the colour says the
//! family (prompts, LoRA, adapters …) and the marker says the member. Colours are those of Okabe and
//! Ito (2008), which stay apart under the common colour blindnesses; the three palest are darkened
//! to a contrast of 3 : 1 on white.

use record::Kind;
use serde::Serialize;

use crate::format;

/// Margin around everything.
pub(super) const MARGIN: f64 = 16.0;

/// Sizes of text.
pub(super) const TITLE: f64 = 17.0;

pub(super) const BODY: f64 = 13.0;

pub(super) const SMALL: f64 = 12.0;

/// A colour by its role, so that the page can replace it on a dark background.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ink {
    /// Text, and the baseline that trains everything.
    Text,
    /// Secondary text and axes.
    Muted,
    /// Grid lines.
    Grid,
    /// Background.
    Paper,
    /// Prompts.
    Vermilion,
    /// LoRA and its kin.
    Blue,
    /// Adapters.
    Green,
    /// Methods that rescale or select what is there.
    Purple,
    /// Compositions.
    Orange,
    /// Methods without a family here.
    Sky,
    /// Floors: nothing of the backbone is adapted.
    Grey,
}

impl Ink {
    /// All of them, in their order: the name of the style sheet's variable, and the colour on a light background.
    pub const ALL: [(Self, &'static str, [u8; 3]); 11] = [
        (Self::Text, "text", [0x1B, 0x1F, 0x24]),
        (Self::Muted, "muted", [0x57, 0x60, 0x6A]),
        (Self::Grid, "grid", [0xE3, 0xE6, 0xEA]),
        (Self::Paper, "paper", [0xFF, 0xFF, 0xFF]),
        (Self::Vermilion, "vermilion", [0xD5, 0x5E, 0x00]),
        (Self::Blue, "blue", [0x00, 0x72, 0xB2]),
        (Self::Green, "green", [0x00, 0x8F, 0x69]),
        (Self::Purple, "purple", [0xB5, 0x60, 0x8F]),
        (Self::Orange, "orange", [0xBF, 0x7C, 0x00]),
        (Self::Sky, "sky", [0x2A, 0x8B, 0xC4]),
        (Self::Grey, "grey", [0x6E, 0x77, 0x81]),
    ];

    /// Name of the style sheet's variable.
    pub fn key(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// On a light background.
    pub fn rgb(self) -> [u8; 3] {
        Self::ALL[self as usize].2
    }

    /// The same as the drawing library writes it, e.g. `#0072B2`.
    pub fn hex(self) -> String {
        let [r, g, b] = self.rgb();
        format!("#{r:02X}{g:02X}{b:02X}")
    }
}

/// Shape of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Marker {
    /// ●
    Circle,
    /// ■
    Square,
    /// ◆
    Diamond,
    /// ▲
    Up,
    /// ▼
    Down,
    /// ★
    Star,
    /// ✚
    Plus,
    /// ✖
    Cross,
    /// ⬟
    Pentagon,
}

impl Marker {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Circle,
        Self::Square,
        Self::Diamond,
        Self::Up,
        Self::Down,
        Self::Star,
        Self::Plus,
        Self::Cross,
        Self::Pentagon,
    ];

    /// Its outline around the origin, about as large as a circle of radius 1.
    pub fn outline(self) -> Vec<[f64; 2]> {
        use std::f64::consts::{FRAC_PI_2, PI};
        let polar = |r: f64, turn: f64| [r * turn.cos(), r * turn.sin()];
        let regular = |n: usize, r: f64, start: f64| {
            let corner = |i: usize| polar(r, start + 2.0 * PI * i as f64 / n as f64);
            (0..n).map(corner).collect()
        };
        // Up is negative, as on the screen.
        let arms = |start: f64| {
            let (long, thin) = (1.15_f64, 0.38_f64);
            let radius = long.hypot(thin);
            let half = (thin / long).atan();
            let arm = |i: usize| {
                let turn = start + FRAC_PI_2 * i as f64;
                [
                    polar(radius, turn - half),
                    polar(radius, turn + half),
                    polar(thin * 2f64.sqrt(), turn + FRAC_PI_2 / 2.0),
                ]
            };
            (0..4).flat_map(arm).collect()
        };
        let star = |i: usize| {
            let r = if i.is_multiple_of(2) { 1.5 } else { 0.68 };
            polar(r, -FRAC_PI_2 + PI * i as f64 / 5.0)
        };
        match self {
            Self::Circle => regular(24, 1.0, 0.0),
            Self::Square => regular(4, 1.25, FRAC_PI_2 / 2.0),
            Self::Diamond => regular(4, 1.3, 0.0),
            Self::Up => regular(3, 1.4, -FRAC_PI_2),
            Self::Down => regular(3, 1.4, FRAC_PI_2),
            Self::Pentagon => regular(5, 1.15, -FRAC_PI_2),
            Self::Star => (0..10).map(star).collect(),
            Self::Plus => arms(0.0),
            Self::Cross => arms(FRAC_PI_2 / 2.0),
        }
    }
}

/// How a method is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Style {
    /// Colour: the family.
    pub ink: Ink,
    /// Marker: the member.
    pub marker: Marker,
}

/// The style of a method: the registry says its family and its number in it. A method of which a record says neither (an
/// older one) gets a marker from its name.
pub fn style(method: &str, kind: Option<&Kind>) -> Style {
    let ink = match kind.map_or("", |kind| &kind.family) {
        "prompt" => Ink::Vermilion,
        "lora" => Ink::Blue,
        "adapter" => Ink::Green,
        "selective" => Ink::Purple,
        "combined" => Ink::Orange,
        "whole" => Ink::Text,
        "head" | "floor" => Ink::Grey,
        _ => Ink::Sky,
    };
    let marker = match kind {
        None => (format::hash(method) % 1009) as usize,
        // The families that share a colour start with different marks.
        Some(kind) if kind.family == "floor" => kind.member + 6,
        Some(kind) => kind.member,
    };
    let marker = Marker::ALL[marker % Marker::ALL.len()];
    Style { ink, marker }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn kind(family: &str, member: usize) -> Kind {
        Kind {
            family: family.into(),
            member,
        }
    }

    #[test]
    fn members_of_a_family_share_a_colour_and_no_two_look_the_same() {
        let mut seen = BTreeSet::new();
        for family in [
            "prompt",
            "lora",
            "adapter",
            "selective",
            "combined",
            "whole",
        ] {
            let of = |member| style("any", Some(&kind(family, member)));
            assert!(
                (0..9).all(|m| of(m).ink == of(0).ink && seen.insert(of(m))),
                "{family}"
            );
        }
        let head = style("head_only", Some(&kind("head", 0)));
        assert_ne!(head, style("majority", Some(&kind("floor", 0))));
    }

    #[test]
    fn every_colour_stands_at_its_place() {
        for (place, (ink, name, _)) in Ink::ALL.into_iter().enumerate() {
            assert_eq!(ink as usize, place);
            assert_eq!(serde_json::json!(ink), name);
        }
    }

    #[test]
    fn a_method_of_an_older_record_has_a_colour_of_its_own() {
        assert_eq!(style("brand_new", None).ink, Ink::Sky);
        assert_eq!(style("brand_new", None), style("brand_new", None));
    }

    /// Relative luminance and contrast after WCAG 2.2.
    fn contrast(a: [u8; 3], b: [u8; 3]) -> f64 {
        let light = |rgb: [u8; 3]| {
            let [r, g, b] = rgb.map(|c| {
                let c = f64::from(c) / 255.0;
                match c <= 0.04045 {
                    true => c / 12.92,
                    false => ((c + 0.055) / 1.055).powf(2.4),
                }
            });
            0.2126 * r + 0.7152 * g + 0.0722 * b
        };
        let (a, b) = (light(a).max(light(b)), light(a).min(light(b)));
        (a + 0.05) / (b + 0.05)
    }

    #[test]
    fn marks_and_text_stand_out_from_the_paper() {
        for (ink, ..) in Ink::ALL {
            let needed = match ink {
                Ink::Text | Ink::Muted => 4.5,
                Ink::Grid | Ink::Paper => 1.0,
                _ => 3.0,
            };
            let found = contrast(ink.rgb(), Ink::Paper.rgb());
            assert!(found >= needed, "{ink:?} {found:.2}");
        }
    }
}
