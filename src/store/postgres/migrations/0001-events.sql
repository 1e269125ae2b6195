-- The schema of a store. docs/decisions/0036-postgresql-slots.md says why it is as it is.
--
-- A topic belongs to a slot for ever: keyed hash of its name, modulo the number of slots. Whoever adds to a slot
-- locks its row first and changes that row in the same transaction, so numbers become visible in order.

-- Names the store, once. What a node finds here must fit, or it refuses to start. A store may be in several
-- databases, which have store_id, hash_key and slots in common.
--
-- slots: of the whole store. database_id: of this database. is_home: consumers are kept here, which is so in one
-- database of a store. is_whole: all databases of the new store were made; it is true in the home alone.
-- is_filling: events of another store are being moved here, and no node may serve it yet. arrival_slack: most
-- microseconds by which an event of a slot has arrived before one with a lower number.
CREATE TABLE sekali_store (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    store_id uuid NOT NULL,
    hash_key uuid NOT NULL,
    database_id uuid NOT NULL DEFAULT gen_random_uuid(),
    slots smallint NOT NULL,
    is_home boolean NOT NULL,
    is_whole boolean NOT NULL DEFAULT false,
    is_filling boolean NOT NULL DEFAULT false,
    arrival_slack bigint NOT NULL DEFAULT 0
);

-- The slots that this database owns. A slot without a row takes no events here.
--
-- commits: statements that changed the slot. next_seq: number of its next event, from 0 without gaps.
CREATE TABLE sekali_slots (
    slot smallint PRIMARY KEY,
    next_topic integer NOT NULL DEFAULT 0,
    commits bigint NOT NULL DEFAULT 0,
    next_seq bigint NOT NULL DEFAULT 0,
    duplicates bigint NOT NULL DEFAULT 0,
    conflicts bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL DEFAULT 0,
    last_received_at bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

-- Slots that this database has given up, as their rows were, and the database that gets each. The events stay
-- here until that one has them.
CREATE TABLE sekali_leaving (LIKE sekali_slots, target uuid NOT NULL, PRIMARY KEY (slot));

-- The last statement of each node that changed a slot, and the events that it stored. A statement that is sent
-- again finds itself here.
CREATE TABLE sekali_attempts (
    node bigint NOT NULL,
    attempt bigint NOT NULL,
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    at timestamptz NOT NULL,
    slot smallint NOT NULL,
    PRIMARY KEY (slot, node)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

-- What a node changes when it wants to know that all that it has read is replicated.
CREATE TABLE sekali_nodes (
    node bigint PRIMARY KEY,
    beats bigint NOT NULL,
    at timestamptz NOT NULL
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

CREATE TABLE sekali_topics (
    topic_id integer NOT NULL,
    slot smallint NOT NULL,
    name text COLLATE "C" PRIMARY KEY,
    UNIQUE (slot, topic_id)
);

CREATE TABLE sekali_topic_counts (
    next_offset bigint NOT NULL,
    duplicates bigint NOT NULL,
    conflicts bigint NOT NULL,
    first_received_at bigint NOT NULL,
    last_received_at bigint NOT NULL,
    topic_id integer NOT NULL,
    slot smallint NOT NULL,
    PRIMARY KEY (slot, topic_id)
) WITH (fillfactor = 50);

-- Every id that was ever stored. Never updated, and kept when events go.
CREATE TABLE sekali_ids (
    seq bigint NOT NULL,
    topic_offset bigint NOT NULL,
    received_at bigint NOT NULL,
    digest uuid NOT NULL,
    topic_id integer NOT NULL,
    slot smallint NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (slot, topic_id, event_id)
) PARTITION BY HASH (slot);

CREATE TABLE sekali_events (
    seq bigint NOT NULL,
    topic_offset bigint NOT NULL,
    received_at bigint NOT NULL,
    topic_id integer NOT NULL,
    slot smallint NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    timestamp text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    payload text COLLATE "C" NOT NULL,
    PRIMARY KEY (slot, topic_id, topic_offset),
    UNIQUE (slot, seq)
) PARTITION BY HASH (slot);

CREATE TABLE sekali_ids_0 PARTITION OF sekali_ids FOR VALUES WITH (MODULUS 8, REMAINDER 0);
CREATE TABLE sekali_ids_1 PARTITION OF sekali_ids FOR VALUES WITH (MODULUS 8, REMAINDER 1);
CREATE TABLE sekali_ids_2 PARTITION OF sekali_ids FOR VALUES WITH (MODULUS 8, REMAINDER 2);
CREATE TABLE sekali_ids_3 PARTITION OF sekali_ids FOR VALUES WITH (MODULUS 8, REMAINDER 3);
CREATE TABLE sekali_ids_4 PARTITION OF sekali_ids FOR VALUES WITH (MODULUS 8, REMAINDER 4);
CREATE TABLE sekali_ids_5 PARTITION OF sekali_ids FOR VALUES WITH (MODULUS 8, REMAINDER 5);
CREATE TABLE sekali_ids_6 PARTITION OF sekali_ids FOR VALUES WITH (MODULUS 8, REMAINDER 6);
CREATE TABLE sekali_ids_7 PARTITION OF sekali_ids FOR VALUES WITH (MODULUS 8, REMAINDER 7);
CREATE TABLE sekali_events_0 PARTITION OF sekali_events FOR VALUES WITH (MODULUS 8, REMAINDER 0);
CREATE TABLE sekali_events_1 PARTITION OF sekali_events FOR VALUES WITH (MODULUS 8, REMAINDER 1);
CREATE TABLE sekali_events_2 PARTITION OF sekali_events FOR VALUES WITH (MODULUS 8, REMAINDER 2);
CREATE TABLE sekali_events_3 PARTITION OF sekali_events FOR VALUES WITH (MODULUS 8, REMAINDER 3);
CREATE TABLE sekali_events_4 PARTITION OF sekali_events FOR VALUES WITH (MODULUS 8, REMAINDER 4);
CREATE TABLE sekali_events_5 PARTITION OF sekali_events FOR VALUES WITH (MODULUS 8, REMAINDER 5);
CREATE TABLE sekali_events_6 PARTITION OF sekali_events FOR VALUES WITH (MODULUS 8, REMAINDER 6);
CREATE TABLE sekali_events_7 PARTITION OF sekali_events FOR VALUES WITH (MODULUS 8, REMAINDER 7);

-- Stores what is new of a batch, all of whose topics are of this slot, and answers for each event. It is one
-- transaction. Every path changes a row, so that its answer waits for the standbys, a duplicate's too.
--
-- topic_numbers: for each event the place of its topic in topic_names, from 1. Statuses: 0 stored, 1 duplicate,
-- 2 conflict. No row comes back for an attempt that is older than the node's last one: nobody waits for it.
CREATE FUNCTION sekali_append(
    of_slot smallint, of_node bigint, of_attempt bigint, more_rejected bigint,
    topic_names text[], topic_numbers integer[], event_ids text[], digests uuid[],
    timestamps text[], sources text[], payloads text[]
) RETURNS TABLE (
    statuses smallint[], offsets bigint[], first_seen bigint[], slot_next_seq bigint, slot_commits bigint,
    slot_next_topic integer
) LANGUAGE plpgsql
AS $$
DECLARE
    s sekali_slots%ROWTYPE;
    known sekali_attempts%ROWTYPE;
    topic_ids integer[];
    now_us bigint;
    stored bigint;
    duplicate bigint;
    conflict bigint;
BEGIN
    SELECT * INTO s FROM sekali_slots t WHERE t.slot = of_slot FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'slot % is not in this database', of_slot USING ERRCODE = 'SK404';
    END IF;
    SELECT * INTO known FROM sekali_attempts a WHERE a.slot = of_slot AND a.node = of_node;
    IF known.attempt > of_attempt THEN
        RETURN;
    END IF;
    IF known.attempt = of_attempt THEN
        SELECT array_agg(t.topic_id ORDER BY n.ord) INTO topic_ids
        FROM unnest(topic_names) WITH ORDINALITY n(name, ord)
        CROSS JOIN LATERAL (SELECT i.topic_id FROM sekali_topics i WHERE i.name = n.name LIMIT 1) t;
        UPDATE sekali_attempts a SET at = clock_timestamp() WHERE a.slot = of_slot AND a.node = of_node;
        RETURN QUERY
        SELECT array_agg(CASE WHEN e.nth = 1 AND i.seq >= known.first_seq AND i.seq < known.last_seq THEN 0
                              WHEN e.digest = i.digest THEN 1 ELSE 2 END::smallint ORDER BY e.ord),
               array_agg(i.topic_offset ORDER BY e.ord), array_agg(i.received_at ORDER BY e.ord),
               s.next_seq, s.commits, s.next_topic
        FROM (SELECT u.ord, u.event_id, u.digest, topic_ids[u.number] AS topic_id,
                     row_number() OVER (PARTITION BY u.number, u.event_id ORDER BY u.ord) AS nth
              FROM unnest(topic_numbers, event_ids, digests) WITH ORDINALITY u(number, event_id, digest, ord)) e
        CROSS JOIN LATERAL (SELECT k.* FROM sekali_ids k
              WHERE k.slot = of_slot AND k.topic_id = e.topic_id AND k.event_id = e.event_id LIMIT 1) i;
        RETURN;
    END IF;

    -- Time never goes back within a slot, whatever the clocks of primaries show.
    now_us := greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, s.last_received_at);

    WITH made AS (
        INSERT INTO sekali_topics (slot, topic_id, name)
        SELECT of_slot, s.next_topic + row_number() OVER () - 1, n.name
        FROM unnest(topic_names) n(name)
        WHERE NOT EXISTS (SELECT FROM sekali_topics t WHERE t.name = n.name)
        RETURNING topic_id
    ), counted AS (
        INSERT INTO sekali_topic_counts SELECT 0, 0, 0, now_us, now_us, m.topic_id, of_slot FROM made m
    )
    SELECT s.next_topic + count(*) INTO s.next_topic FROM made;
    SELECT array_agg(t.topic_id ORDER BY n.ord) INTO topic_ids
    FROM unnest(topic_names) WITH ORDINALITY n(name, ord)
    CROSS JOIN LATERAL (SELECT i.topic_id FROM sekali_topics i WHERE i.name = n.name LIMIT 1) t;

    WITH sent AS MATERIALIZED (
        SELECT u.*, topic_ids[u.number] AS topic_id,
               row_number() OVER twins AS nth, first_value(u.digest) OVER twins AS first_digest
        FROM unnest(topic_numbers, event_ids, digests, timestamps, sources, payloads)
             WITH ORDINALITY u(number, event_id, digest, timestamp, source, payload, ord)
        WINDOW twins AS (PARTITION BY u.number, u.event_id ORDER BY u.ord)
    ), decided AS MATERIALIZED (
        SELECT e.ord, e.topic_id, e.event_id, e.digest, e.timestamp, e.source, e.payload, i.seq IS NULL AS is_new,
               coalesce(i.digest, e.first_digest) AS known_digest,
               i.topic_offset AS known_offset, coalesce(i.received_at, now_us) AS received_at,
               CASE WHEN i.seq IS NULL AND e.nth = 1 THEN
                   row_number() OVER (PARTITION BY e.topic_id, i.seq IS NULL AND e.nth = 1 ORDER BY e.ord) - 1 END AS place,
               CASE WHEN i.seq IS NULL AND e.nth = 1 THEN
                   s.next_seq + row_number() OVER (PARTITION BY i.seq IS NULL AND e.nth = 1 ORDER BY e.ord) - 1 END AS seq
        FROM sent e
        LEFT JOIN LATERAL (SELECT k.* FROM sekali_ids k
              WHERE k.slot = of_slot AND k.topic_id = e.topic_id AND k.event_id = e.event_id LIMIT 1) i ON true
    ), placed AS MATERIALIZED (
        SELECT d.*, CASE WHEN d.is_new
                    THEN c.next_offset + first_value(d.place) OVER (PARTITION BY d.topic_id, d.event_id ORDER BY d.ord)
                    ELSE d.known_offset END AS topic_offset,
               CASE WHEN d.seq IS NOT NULL THEN 0 WHEN d.digest = d.known_digest THEN 1 ELSE 2 END::smallint AS status
        FROM decided d
        CROSS JOIN LATERAL (SELECT t.next_offset FROM sekali_topic_counts t
              WHERE t.slot = of_slot AND t.topic_id = d.topic_id LIMIT 1) c
    ), ids AS (
        INSERT INTO sekali_ids (seq, topic_offset, received_at, digest, topic_id, slot, event_id)
        SELECT p.seq, p.topic_offset, now_us, p.digest, p.topic_id, of_slot, p.event_id
        FROM placed p WHERE p.status = 0 ORDER BY p.ord
    ), events AS (
        INSERT INTO sekali_events
            (seq, topic_offset, received_at, topic_id, slot, event_id, timestamp, source, payload)
        SELECT p.seq, p.topic_offset, now_us, p.topic_id, of_slot, p.event_id,
               p.timestamp, p.source, p.payload
        FROM placed p WHERE p.status = 0 ORDER BY p.ord
    ), counts AS (
        SELECT p.topic_id, count(*) FILTER (WHERE p.status = 0) AS stored,
               count(*) FILTER (WHERE p.status <> 0) AS duplicates,
               count(*) FILTER (WHERE p.status = 2) AS conflicts
        FROM placed p GROUP BY p.topic_id
    ), counted AS (
        UPDATE sekali_topic_counts c
        SET next_offset = c.next_offset + n.stored, duplicates = c.duplicates + n.duplicates,
            conflicts = c.conflicts + n.conflicts,
            last_received_at = CASE WHEN n.stored > 0 THEN now_us ELSE c.last_received_at END
        FROM counts n WHERE c.slot = of_slot AND c.topic_id = ANY (topic_ids) AND c.topic_id = n.topic_id
    )
    SELECT array_agg(p.status ORDER BY p.ord), array_agg(p.topic_offset ORDER BY p.ord),
           array_agg(p.received_at ORDER BY p.ord),
           count(*) FILTER (WHERE p.status = 0), count(*) FILTER (WHERE p.status <> 0),
           count(*) FILTER (WHERE p.status = 2)
    INTO statuses, offsets, first_seen, stored, duplicate, conflict
    FROM placed p;

    INSERT INTO sekali_attempts AS a VALUES
        (of_node, of_attempt, s.next_seq, s.next_seq + stored, clock_timestamp(), of_slot)
    ON CONFLICT (slot, node) DO UPDATE
    SET attempt = excluded.attempt, first_seq = excluded.first_seq, last_seq = excluded.last_seq, at = excluded.at;
    UPDATE sekali_slots t
    SET next_topic = s.next_topic, commits = s.commits + 1, next_seq = s.next_seq + stored,
        duplicates = s.duplicates + duplicate, conflicts = s.conflicts + conflict,
        rejected = s.rejected + more_rejected,
        last_received_at = CASE WHEN stored > 0 THEN now_us ELSE s.last_received_at END
    WHERE t.slot = of_slot;
    slot_next_seq := s.next_seq + stored;
    slot_commits := s.commits + 1;
    slot_next_topic := s.next_topic;
    RETURN NEXT;
END
$$;

-- The first place below a bound whose event arrived at or after a time, or has at least a number; the one that is not meant
-- is null. Places are offsets of a topic, or numbers of the slot where no topic is given. In both orders neither times nor
-- numbers go back.
CREATE FUNCTION sekali_search(of_slot smallint, of_topic integer, below bigint, since_time bigint, since_seq bigint)
RETURNS bigint LANGUAGE plpgsql STABLE
AS $$
DECLARE
    low bigint := 0;
    high bigint := below;
    middle bigint;
    found_at bigint;
    found_seq bigint;
BEGIN
    WHILE low < high LOOP
        middle := (low + high) / 2;
        IF of_topic IS NULL THEN
            SELECT e.received_at, e.seq INTO found_at, found_seq FROM sekali_events e
            WHERE e.slot = of_slot AND e.seq = middle;
        ELSE
            SELECT e.received_at, e.seq INTO found_at, found_seq FROM sekali_events e
            WHERE e.slot = of_slot AND e.topic_id = of_topic AND e.topic_offset = middle;
        END IF;
        IF coalesce(found_at < since_time, found_seq < since_seq) THEN
            low := middle + 1;
        ELSE
            high := middle;
        END IF;
    END LOOP;
    RETURN low;
END
$$;
