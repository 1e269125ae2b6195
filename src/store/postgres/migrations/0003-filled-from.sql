-- Number of the store whose events are or were moved here, so that a move which broke off goes on
-- from no other.
LOCK TABLE sekali_attempts IN ACCESS EXCLUSIVE MODE;
ALTER TABLE sekali_store ADD COLUMN filled_from uuid;
