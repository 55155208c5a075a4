//! The frozen transformer: configuration, loading, sites, hooks and packed batches.
