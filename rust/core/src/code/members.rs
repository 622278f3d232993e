//! The member cities, which decide what is native. They come from the caller: from a genesis, or from the state.
use super::City;

/// The member cities: a sorted set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    cities: Vec<City>,
}

impl Members {
    /// Whether this city is a member.
    pub fn contains(&self, city: City) -> bool {
        self.cities.binary_search_by_key(&city.sort_key(), |member| member.sort_key()).is_ok()
    }

    /// The cities in ascending order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = City> + '_ {
        self.cities.iter().copied()
    }

    /// How many cities.
    pub fn len(&self) -> usize {
        self.cities.len()
    }

    /// Whether there is none; every code is then foreign.
    pub fn is_empty(&self) -> bool {
        self.cities.is_empty()
    }
}

impl FromIterator<City> for Members {
    fn from_iter<I: IntoIterator<Item = City>>(cities: I) -> Members {
        let mut cities: Vec<City> = cities.into_iter().collect();
        cities.sort_unstable();
        cities.dedup();
        Members { cities }
    }
}
