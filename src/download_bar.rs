//! Progress bars on standard error: quiet when it is not a terminal.

use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};

/// The bar of downloads.
#[derive(Default)]
pub struct Download(Mutex<Option<ProgressBar>>);

impl Download {
    fn with(&self, f: impl FnOnce(&mut Option<ProgressBar>)) {
        f(&mut self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl sources::Progress for Download {
    fn start(&self, what: &str, bytes: Option<u64>) {
        let bar = match bytes {
            Some(n) => {
                ProgressBar::new(n).with_style(style("{msg} {bar:30} {bytes}/{total_bytes} {eta}"))
            }
            None => ProgressBar::new_spinner().with_style(style("{msg} {spinner} {bytes}")),
        };
        bar.set_message(what.to_owned());
        self.with(|b| *b = Some(bar));
    }

    fn advance(&self, bytes: u64) {
        self.with(|b| {
            if let Some(bar) = b {
                bar.inc(bytes);
            }
        });
    }

    fn finish(&self) {
        self.with(|b| {
            if let Some(bar) = b.take() {
                bar.finish_and_clear();
            }
        });
    }
}

/// A bar's style; a template that is not valid falls back to the plain bar.
pub fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
