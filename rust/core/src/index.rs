//! The resolution index: from map key to record, published as immutable snapshots.
