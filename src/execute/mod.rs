//! Making the runs of a plan: one process each on this machine.

pub mod claim;
pub mod cost;
pub mod estimate;
pub mod local;
pub mod measured;
pub mod plan_file;
pub mod planned;
pub mod progress;
pub mod submit;
