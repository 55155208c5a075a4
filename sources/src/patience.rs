//! How long the network is waited for.

use std::time::Duration;

use crate::Error;

/// How long the network is waited for, and how much is taken from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Patience {
    /// For a name or a connection.
    pub connect: Duration,
    /// The longest silence in the middle of an answer.
    pub silence: Duration,
    /// Over this long …
    pub window: Duration,
    /// … at least so many bytes per second have to come.
    pub slowest: u64,
    /// For one file, with all its tries.
    pub whole: Duration,
    /// How often a file is asked for.
    pub tries: u32,
    /// Before the second try; doubled before each further one.
    pub pause: Duration,
    /// A server that asks for a longer pause is not waited for.
    pub longest_pause: Duration,
    /// The most bytes of a file whose length nobody declares.
    pub undeclared: u64,
}

impl Default for Patience {
    /// Long enough for a slow network, short enough that nobody thinks the program hangs.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            window: Duration::from_secs(60),
            slowest: 1024,
            whole: Duration::from_secs(6 * 3600),
            tries: 5,
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
            undeclared: 1 << 30,
        }
    }
}

impl Patience {
    /// How long to wait before asking again after this error, if it may pass.
    pub(crate) fn after(&self, error: &Error, tried: u32) -> Option<Duration> {
        // Doubled each time, and not the same for all who failed together.
        let spread = f64::from(std::process::id() % 64) / 256.0 + 1.0;
        let pause = (self.pause * 2u32.saturating_pow(tried.min(10) - 1)).mul_f64(spread);
        match error {
            Error::Interrupted { .. } => Some(self.pause.min(Duration::from_millis(200))),
            Error::Http {
                status: 408 | 429 | 500 | 502 | 503 | 504,
                wait,
                ..
            } => {
                let wait = wait.unwrap_or_default().max(pause);
                (wait <= self.longest_pause).then_some(wait)
            }
            _ => None,
        }
    }
}
