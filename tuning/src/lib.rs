//! corelane tuning.
