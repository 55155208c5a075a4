//! One file per command. Each takes plain values, does what was asked, prints the result on standard output and says
//! with its exit code how it ended.

pub mod check;
pub mod cite;
pub mod compare;
pub mod completions;
pub mod doctor;
pub mod domains;
pub mod evaluate;
pub mod export;
pub mod fetch;
pub mod import;
pub mod latency;
pub mod list;
pub mod plan_only;
pub mod predict;
pub mod push;
pub mod recommend;
pub mod report;
pub mod run_plan;
pub mod serve;
pub mod serving;
pub mod status;
pub mod suite;
pub mod sweep;
pub mod tasks;
pub mod train;
pub mod tune;
pub mod until_decided;
pub mod work;
