-- Consumers. docs/decisions/0038-consumers-of-a-database.md says why they are as they are.
--
-- Whatever reads or changes a consumer's leases and positions locks its row first, so each of these
-- functions sees what the one before has left, through whichever node it came. A lock of a row is
-- in the log, too, so the commit of one that changes nothing more waits for the standbys.

-- number: random, of this life of the name. A consumer that is moved gets another, and receipts
-- from before fit no more. positions: how many it has. turn: the topic that was acknowledged last,
-- as readers number topics. error_at: when something went wrong last. error_reason: 0, a lease
-- ended before its events were acknowledged; 1, an acknowledgement was refused.
CREATE TABLE sekali_consumers (
    number bigint NOT NULL,
    created_at bigint NOT NULL,
    positions bigint NOT NULL,
    turn bigint NOT NULL DEFAULT 0,
    error_at bigint,
    error_reason smallint,
    error_holder text COLLATE "C",
    name text COLLATE "C" PRIMARY KEY,
    topics text[] NOT NULL
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

-- The offset to go on from in a topic; a topic without a row is read from its first event on.
CREATE TABLE sekali_positions (
    consumer bigint NOT NULL,
    next_offset bigint NOT NULL,
    topic text COLLATE "C" NOT NULL,
    PRIMARY KEY (consumer, topic)
) WITH (fillfactor = 50);

-- Who reads for a consumer. until: by the clock of the primary, in microseconds since 1970.
-- is_given_back: its holder had it end sooner, and works on nothing that is given under it.
-- is_open: events were given under it, and no acknowledgement has come since.
CREATE TABLE sekali_leases (
    consumer bigint NOT NULL,
    lease bigint NOT NULL,
    until bigint NOT NULL,
    part integer NOT NULL,
    parts integer NOT NULL,
    is_named boolean NOT NULL,
    is_given_back boolean NOT NULL DEFAULT false,
    is_open boolean NOT NULL DEFAULT false,
    holder text COLLATE "C" NOT NULL,
    PRIMARY KEY (consumer, lease)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

CREATE FUNCTION sekali_now() RETURNS bigint LANGUAGE sql VOLATILE
AS $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$;

-- Makes a consumer, or has one begin again elsewhere: replaces is the number that it must have
-- then. Its positions are those that are given; if keeps is true, in other topics those that it
-- has.
--
-- 0: it is done. 1: there is one with the same topics. 2: it has other topics, or another number.
-- 3: there are too many consumers. 4: there are too many positions. None: there is no such
-- consumer.
CREATE FUNCTION sekali_begin_consumer(
    of_name text, replaces bigint, new_number bigint, of_topics text[], names text[], offsets bigint[], keeps boolean,
    consumers_max bigint, positions_max bigint
) RETURNS smallint LANGUAGE plpgsql
AS $$
DECLARE
    known sekali_consumers%ROWTYPE;
    others bigint;
BEGIN
    SELECT * INTO known FROM sekali_consumers c WHERE c.name = of_name FOR UPDATE;
    IF FOUND AND known.number = new_number THEN
        RETURN 0;
    ELSIF FOUND AND replaces IS NULL THEN
        RETURN CASE WHEN known.topics = of_topics THEN 1 ELSE 2 END;
    ELSIF NOT FOUND AND replaces IS NOT NULL THEN
        RETURN NULL;
    ELSIF known.number <> replaces THEN
        RETURN 2;
    ELSIF replaces IS NULL AND (SELECT count(*) FROM sekali_consumers) >= consumers_max THEN
        RETURN 3;
    END IF;

    IF keeps THEN
        SELECT array_agg(p.topic), array_agg(p.next_offset) INTO names, offsets
        FROM (SELECT k.topic, k.next_offset FROM sekali_positions k
              WHERE k.consumer = replaces AND k.topic <> ALL (names)
              UNION ALL SELECT n.topic, n.next_offset FROM unnest(names, offsets) n (topic, next_offset)) p;
    END IF;
    SELECT coalesce(sum(c.positions), 0) INTO others FROM sekali_consumers c WHERE c.name <> of_name;
    IF cardinality(names) > coalesce(known.positions, 0) AND others + cardinality(names) > positions_max THEN
        RETURN 4;
    END IF;

    DELETE FROM sekali_leases l WHERE l.consumer = replaces;
    DELETE FROM sekali_positions p WHERE p.consumer = replaces;
    INSERT INTO sekali_consumers AS c (number, created_at, positions, name, topics)
    VALUES (new_number, sekali_now(), cardinality(names), of_name, of_topics)
    ON CONFLICT (name) DO UPDATE SET number = excluded.number, positions = excluded.positions, turn = 0, error_at = NULL
    WHERE c.number = replaces;
    IF NOT FOUND THEN
        -- Another node has just made it.
        RAISE EXCEPTION 'consumer % is being made', of_name USING ERRCODE = 'serialization_failure';
    END IF;
    INSERT INTO sekali_positions (consumer, topic, next_offset)
    SELECT new_number, p.topic, p.next_offset FROM unnest(names, offsets) p (topic, next_offset);
    RETURN 0;
END
$$;

-- Ends a consumer; whether there was one.
CREATE FUNCTION sekali_end_consumer(of_name text) RETURNS boolean LANGUAGE plpgsql
AS $$
DECLARE
    ended bigint;
BEGIN
    DELETE FROM sekali_consumers c WHERE c.name = of_name RETURNING c.number INTO ended;
    DELETE FROM sekali_leases l WHERE l.consumer = ended;
    DELETE FROM sekali_positions p WHERE p.consumer = ended;
    RETURN ended IS NOT NULL;
END
$$;

-- Takes a lease on a part of a consumer's topics, or has one last longer, and says where the
-- consumer is in topics that may have something new, and where these end. It writes, so that its
-- answer waits for the standbys.
--
-- own_leases: those that the reader knows as its own, and the number of a new one, which comes
-- last. If another's lease stands against it, the row is of that one, without positions. No row
-- comes back if the consumer is not there with this number. known_ends: where topics of other
-- databases end, and null for those of this one.
CREATE FUNCTION sekali_take(
    of_name text, of_number bigint, own_leases bigint[], of_holder text, of_named boolean, of_part integer,
    of_parts integer, lasts_us bigint, slots smallint[], topic_ids integer[], topic_names text[], known_ends bigint[]
) RETURNS TABLE (
    given_lease bigint, given_until bigint, given_holder text, given_part integer, given_parts integer,
    positions bigint[], ends bigint[]
) LANGUAGE plpgsql
AS $$
DECLARE
    now_us bigint;
    is_waiting boolean;
BEGIN
    PERFORM FROM sekali_consumers c WHERE c.name = of_name AND c.number = of_number FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    now_us := sekali_now();
    WITH ended AS (
        DELETE FROM sekali_leases l WHERE l.consumer = of_number AND l.until <= now_us
        RETURNING l.until, l.holder, l.is_open
    ), late AS (
        SELECT e.until, e.holder FROM ended e WHERE e.is_open ORDER BY e.until DESC LIMIT 1
    )
    UPDATE sekali_consumers c SET error_at = l.until, error_reason = 0, error_holder = l.holder
    FROM late l WHERE c.name = of_name AND coalesce(c.error_at, 0) <= l.until;
    SELECT l.lease, l.until, l.holder, l.part, l.parts
    INTO given_lease, given_until, given_holder, given_part, given_parts
    FROM sekali_leases l
    WHERE l.consumer = of_number
      -- A hash can leave one remainder with each of two counts if the remainders are the same for
      -- what they share.
      AND (l.part - 1) % gcd(l.parts, of_parts) = (of_part - 1) % gcd(l.parts, of_parts)
      AND NOT (l.part = of_part AND l.parts = of_parts
               AND (l.lease = ANY (own_leases) OR (l.is_named AND of_named AND l.holder = of_holder)))
    LIMIT 1;
    IF FOUND THEN
        RETURN NEXT;
        RETURN;
    END IF;
    -- A request that still waits does not renew what its holder has given back meanwhile.
    is_waiting := cardinality(own_leases) > 1;
    UPDATE sekali_leases l SET
        until = CASE WHEN is_waiting AND l.is_given_back THEN l.until ELSE now_us + lasts_us END,
        is_given_back = is_waiting AND l.is_given_back OR now_us + lasts_us < l.until,
        is_open = l.is_open AND now_us + lasts_us >= l.until
    WHERE l.consumer = of_number AND l.part = of_part AND l.parts = of_parts
    RETURNING l.lease, l.until INTO given_lease, given_until;
    IF NOT FOUND THEN
        INSERT INTO sekali_leases (consumer, lease, until, part, parts, is_named, holder)
        VALUES (of_number, own_leases[cardinality(own_leases)], now_us + lasts_us, of_part, of_parts, of_named, of_holder)
        RETURNING lease, until INTO given_lease, given_until;
    END IF;
    SELECT coalesce(array_agg(coalesce(p.next_offset, 0) ORDER BY t.ord), '{}'),
           coalesce(array_agg(coalesce(t.known_end, c.next_offset, 0) ORDER BY t.ord), '{}')
    INTO positions, ends
    FROM unnest(slots, topic_ids, topic_names, known_ends) WITH ORDINALITY t (slot, topic_id, name, known_end, ord)
    LEFT JOIN LATERAL (SELECT k.next_offset FROM sekali_positions k
          WHERE k.consumer = of_number AND k.topic = t.name LIMIT 1) p ON true
    LEFT JOIN LATERAL (SELECT k.next_offset FROM sekali_topic_counts k
          WHERE k.slot = t.slot AND k.topic_id = t.topic_id LIMIT 1) c ON true;
    IF EXISTS (SELECT FROM unnest(positions, ends) n (low, high) WHERE n.low < n.high) THEN
        UPDATE sekali_leases l SET is_open = true
        WHERE l.consumer = of_number AND l.lease = given_lease AND NOT l.is_given_back AND NOT l.is_open;
    END IF;
    RETURN NEXT;
END
$$;

-- Notes that an acknowledgement came too late.
CREATE FUNCTION sekali_refuse_acknowledgement(of_name text) RETURNS smallint LANGUAGE sql VOLATILE
AS $$
    UPDATE sekali_consumers SET error_at = sekali_now(), error_reason = 1, error_holder = NULL WHERE name = of_name
    RETURNING 2::smallint
$$;

-- Moves a consumer on in these topics, as far as it is not there yet, if the lease is still held.
-- known_ends: as above.
--
-- 0: it is done. 1: it was there before, and nothing is changed but that a lease without a name may
-- have ended. 2: the lease is over, or the consumer has another number. 3: a topic is not there, or
-- does not go so far. 4: there are too many positions. None: there is no such consumer.
CREATE FUNCTION sekali_acknowledge(
    of_name text, of_number bigint, of_lease bigint, slots smallint[], topic_ids integer[], topic_names text[],
    next_offsets bigint[], known_ends bigint[], new_turn bigint, positions_max bigint
) RETURNS smallint LANGUAGE plpgsql
AS $$
DECLARE
    known sekali_consumers%ROWTYPE;
    held sekali_leases%ROWTYPE;
    further bigint[];
    more bigint;
    are_stored boolean;
BEGIN
    SELECT * INTO known FROM sekali_consumers c WHERE c.name = of_name FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    ELSIF known.number <> of_number THEN
        RETURN sekali_refuse_acknowledgement(of_name);
    END IF;
    SELECT coalesce(array_agg(t.ord), '{}'), count(*) FILTER (WHERE p.next_offset IS NULL),
           coalesce(bool_and(coalesce(t.next_offset <= coalesce(t.known_end, c.next_offset), false)), true)
    INTO further, more, are_stored
    FROM unnest(slots, topic_ids, topic_names, next_offsets, known_ends)
         WITH ORDINALITY t (slot, topic_id, name, next_offset, known_end, ord)
    LEFT JOIN LATERAL (SELECT k.next_offset FROM sekali_positions k
          WHERE k.consumer = of_number AND k.topic = t.name LIMIT 1) p ON true
    LEFT JOIN LATERAL (SELECT k.next_offset FROM sekali_topic_counts k
          WHERE k.slot = t.slot AND k.topic_id = t.topic_id LIMIT 1) c ON true
    WHERE t.next_offset > coalesce(p.next_offset, 0);
    SELECT * INTO held FROM sekali_leases l
    WHERE l.consumer = of_number AND l.lease = of_lease AND l.until > sekali_now();
    IF cardinality(further) > 0 AND NOT FOUND THEN
        RETURN sekali_refuse_acknowledgement(of_name);
    ELSIF NOT are_stored THEN
        RETURN 3;
    ELSIF more > 0 AND (SELECT sum(c.positions) FROM sekali_consumers c) + more > positions_max THEN
        RETURN 4;
    END IF;
    -- One without a name would not be known again when it comes for more.
    IF NOT held.is_named THEN
        DELETE FROM sekali_leases l WHERE l.consumer = of_number AND l.lease = of_lease;
    ELSIF held.is_open THEN
        UPDATE sekali_leases l SET is_open = false WHERE l.consumer = of_number AND l.lease = of_lease;
    END IF;
    IF cardinality(further) = 0 THEN
        RETURN 1;
    END IF;
    INSERT INTO sekali_positions (consumer, topic, next_offset)
    SELECT of_number, t.name, t.next_offset
    FROM unnest(topic_names, next_offsets) WITH ORDINALITY t (name, next_offset, ord) WHERE t.ord = ANY (further)
    ON CONFLICT (consumer, topic) DO UPDATE SET next_offset = excluded.next_offset;
    UPDATE sekali_consumers c SET positions = c.positions + more, turn = new_turn WHERE c.name = of_name;
    RETURN 0;
END
$$;
