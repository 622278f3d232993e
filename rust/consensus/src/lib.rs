//! The seam around Malachite.
