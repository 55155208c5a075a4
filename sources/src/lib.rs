//! Named files with a revision and a hash, and the places to fetch them from.
