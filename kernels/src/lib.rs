//! Operations over a frozen backbone, each with an analytic backward.
