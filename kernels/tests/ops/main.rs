//! Every op against its plain reference (f32, at each instruction set of this machine) and its gradients against
//! finite differences (f64), on inputs that hurt.
#![allow(clippy::unwrap_used)]

mod attention;
mod linear;
mod losses;
mod rows;
mod support;
mod threads;
mod whole;
