//! A listing that comes in pages, each of which names the next by a cursor.

use super::remote::escape;

/// How far a listing is read. It holds one cursor of those before, however long the listing: one
/// that goes round is noticed by Brent's algorithm.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The next page's, as a query has it; empty for the first page.
    cursor: String,
    held: String,
    steps: u64,
    /// After this many steps another cursor is held.
    steps_max: u64,
}

impl Default for Listing {
    fn default() -> Self {
        Self { cursor: String::new(), held: String::new(), steps: 0, steps_max: 1 }
    }
}

impl Listing {
    /// What the query for the next page ends with: `&cursor=…`, or nothing for the first page.
    pub(crate) fn cursor(&self) -> &str {
        &self.cursor
    }

    /// Goes on to the page that `next` names; false if there is none.
    ///
    /// # Errors
    /// The listing goes round: a sentence.
    pub(crate) fn advance(&mut self, next: Option<String>) -> Result<bool, String> {
        let Some(next) = next else { return Ok(false) };
        if self.was_at(&next) {
            return Err("a next_cursor that was there before".to_owned());
        }
        self.cursor = format!("&cursor={}", escape(&next));
        Ok(true)
    }

    fn was_at(&mut self, cursor: &str) -> bool {
        if cursor == self.held {
            return true;
        }
        self.steps += 1;
        if self.steps == self.steps_max {
            (self.held, self.steps, self.steps_max) =
                (cursor.to_owned(), 0, self.steps_max.saturating_mul(2));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_that_goes_round_is_noticed_wherever_it_begins_to() {
        for (way, length) in [(0, 1), (0, 2), (1, 3), (7, 5), (100, 37)] {
            let (mut listing, mut steps) = (Listing::default(), 0_u64);
            let at = |step: u64| if step < way { step } else { way + (step - way) % length };
            while listing.advance(Some(at(steps).to_string())).is_ok() {
                steps += 1;
                assert!(steps < 10 * (way + length), "{way} {length}");
            }
            assert!(steps >= way + length, "nothing was repeated yet: {way} {length}");
        }
        let mut straight = Listing::default();
        assert!((0..10_000).all(|step: u64| straight.advance(Some(step.to_string())) == Ok(true)));
        assert_eq!(straight.advance(None), Ok(false));
    }

    #[test]
    fn a_cursor_stands_in_the_query_of_the_next_page() {
        let mut listing = Listing::default();
        assert_eq!(listing.cursor(), "");
        listing.advance(Some("a/b+c".to_owned())).unwrap();
        assert_eq!(listing.cursor(), "&cursor=a%2Fb%2Bc");
    }
}
