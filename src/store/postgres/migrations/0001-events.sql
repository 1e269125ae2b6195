-- The schema of a store. docs/decisions/0036-postgresql-slots.md says why it is as it is.
--
-- A topic belongs to a slot for ever: keyed hash of its name, modulo the number of slots. Whoever
-- adds to a slot locks its row first and changes that row in the same transaction, so numbers
-- become visible in order.

-- Names the store, once. What a node finds here must fit, or it refuses to start. A store may be in
-- several databases, which have store_id, hash_key and slots in common.
--
-- slots: of the whole store. database_id: of this database. is_home: consumers are kept here, which
-- is so in one database of a store. is_whole: all databases of the new store were made; it is true
-- in the home alone. is_filling: events of another store are being moved here, and no node may
-- serve it yet. arrival_slack: most microseconds by which an event of a slot has arrived before one
-- with a lower number.
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
-- commits: statements that changed the slot. next_seq: number of its next event, from 0 without
-- gaps.
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

-- Slots that this database has given up, as their rows were, and the database that gets each. The
-- events stay here until that one has them.
CREATE TABLE sekali_leaving (LIKE sekali_slots, target uuid NOT NULL, PRIMARY KEY (slot));

-- The last statement of each node that changed a slot. One that is sent again finds itself here.
--
-- times: how often it came; all its events were stored the first time. Those that it stored itself
-- have numbers from first_seq on. received_at: when it came last.
CREATE TABLE sekali_attempts (
    node bigint NOT NULL,
    attempt bigint NOT NULL,
    first_seq bigint NOT NULL,
    times bigint NOT NULL,
    received_at bigint NOT NULL,
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

-- Stores what is new of a batch, all of whose topics are of this slot, and answers for each event.
-- It is one transaction. Every path changes a row, so that its answer waits for the standbys, a
-- duplicate's too.
--
-- topic_sizes: how many of the events each topic of topic_names has. For each event topic_numbers
-- has the place of its topic, and firsts that of the first event with the same topic and id, mostly
-- its own; both from 1. Statuses: 0 stored, 1 duplicate, 2 conflict. No row comes back for an
-- attempt older than the node's last one: nobody waits for it.
--
-- What it costs is mostly to begin its statements, so there are few of them, and their plans are
-- small. OFFSET 0 and ON CONFLICT have rows looked up by key, whatever is known of the tables.
-- Events stay in their order meanwhile.
CREATE FUNCTION sekali_append(
    of_slot smallint, of_node bigint, of_attempt bigint, more_rejected bigint,
    topic_names text[], topic_sizes bigint[], topic_numbers integer[], firsts integer[],
    event_ids text[], digests uuid[], timestamps text[], sources text[], payloads text[]
) RETURNS TABLE (
    statuses smallint[], offsets bigint[], first_seen bigint[], slot_next_seq bigint, slot_commits bigint,
    slot_next_topic integer
) LANGUAGE plpgsql
AS $$
DECLARE
    own_first bigint;
    own_times bigint;
    now_us bigint;
    topic_ids integer[];
    next_offsets bigint[];
    topic_conflicts bigint[];
    new_topic integer;
    fresh integer[];
    stored integer := 0;
    conflict bigint := 0;
    number integer;
    place integer;
    value bigint;
BEGIN
    -- Time never goes back within a slot, whatever the clocks of primaries show.
    INSERT INTO sekali_attempts AS a (node, attempt, first_seq, times, received_at, slot)
    SELECT of_node, of_attempt, s.next_seq, 1,
           greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, s.last_received_at), of_slot
    FROM (SELECT t.next_seq, t.last_received_at FROM sekali_slots t WHERE t.slot = of_slot FOR UPDATE) s
    ON CONFLICT (slot, node) DO UPDATE
    SET attempt = excluded.attempt, received_at = excluded.received_at,
        first_seq = CASE WHEN a.attempt = excluded.attempt THEN a.first_seq ELSE excluded.first_seq END,
        times = CASE WHEN a.attempt = excluded.attempt THEN a.times + 1 ELSE 1 END
    WHERE a.attempt <= excluded.attempt
    RETURNING a.first_seq, a.times, a.received_at INTO own_first, own_times, now_us;
    IF NOT FOUND THEN
        PERFORM FROM sekali_slots t WHERE t.slot = of_slot;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'slot % is not in this database', of_slot USING ERRCODE = 'SK404';
        END IF;
        RETURN;
    END IF;

    SELECT array_agg(t.topic_id), array_agg(c.next_offset) INTO topic_ids, next_offsets
    FROM (SELECT unnest(topic_names) AS name) n
    LEFT JOIN LATERAL (SELECT k.topic_id, k.slot FROM sekali_topics k WHERE k.name = n.name OFFSET 0) t ON t.slot = of_slot
    LEFT JOIN LATERAL (SELECT k.next_offset FROM sekali_topic_counts k
          WHERE k.slot = of_slot AND k.topic_id = t.topic_id OFFSET 0) c ON true;
    IF array_position(topic_ids, NULL) IS NOT NULL THEN
        SELECT t.next_topic INTO new_topic FROM sekali_slots t WHERE t.slot = of_slot;
        FOR number IN 1 .. cardinality(topic_ids) LOOP
            IF topic_ids[number] IS NULL THEN
                INSERT INTO sekali_topics (slot, topic_id, name)
                VALUES (of_slot, new_topic, topic_names[number]);
                topic_ids[number] := new_topic;
                next_offsets[number] := 0;
                new_topic := new_topic + 1;
            END IF;
        END LOOP;
        UPDATE sekali_slots t SET next_topic = new_topic WHERE t.slot = of_slot;
    END IF;

    -- An event whose number is not below the attempt's first is new, or was stored by it when it
    -- came before.
    SELECT array_agg(CASE WHEN coalesce(i.seq, own_first) >= own_first AND firsts[e.ord] = e.ord THEN 0
                          WHEN digests[e.ord] = coalesce(i.digest, digests[firsts[e.ord]]) THEN 1
                          ELSE 2 END::smallint),
           array_agg(i.topic_offset), array_agg(coalesce(i.received_at, now_us)),
           array_agg(e.ord) FILTER (WHERE i.seq IS NULL AND firsts[e.ord] = e.ord)
    INTO statuses, offsets, first_seen, fresh
    FROM (SELECT generate_series(1, cardinality(event_ids)) AS ord) e
    LEFT JOIN LATERAL (SELECT k.seq, k.topic_offset, k.received_at, k.digest FROM sekali_ids k
          WHERE k.slot = of_slot AND k.topic_id = topic_ids[topic_numbers[e.ord]]
            AND k.event_id = event_ids[e.ord] OFFSET 0) i ON true;

    IF own_times > 1 THEN
        SELECT t.next_seq, t.commits, t.next_topic INTO slot_next_seq, slot_commits, slot_next_topic
        FROM sekali_slots t WHERE t.slot = of_slot;
        RETURN NEXT;
        RETURN;
    END IF;

    IF fresh IS NOT NULL THEN
        stored := cardinality(fresh);
        -- With an array on both sides of an assignment all of it would be copied.
        FOREACH place IN ARRAY fresh LOOP
            number := topic_numbers[place];
            value := next_offsets[number];
            offsets[place] := value;
            next_offsets[number] := value + 1;
        END LOOP;
        IF array_position(offsets, NULL) IS NOT NULL THEN
            offsets := ARRAY(SELECT offsets[f.first] FROM (SELECT unnest(firsts) AS first) f);
        END IF;
        INSERT INTO sekali_ids (seq, topic_offset, received_at, digest, topic_id, slot, event_id)
        SELECT own_first + f.nth, offsets[f.ord], now_us, digests[f.ord], topic_ids[topic_numbers[f.ord]],
               of_slot, event_ids[f.ord]
        FROM (SELECT unnest(fresh) AS ord, generate_series(0, stored - 1) AS nth) f;
        INSERT INTO sekali_events
            (seq, topic_offset, received_at, topic_id, slot, event_id, timestamp, source, payload)
        SELECT own_first + f.nth, offsets[f.ord], now_us, topic_ids[topic_numbers[f.ord]], of_slot,
               event_ids[f.ord], timestamps[f.ord], sources[f.ord], payloads[f.ord]
        FROM (SELECT unnest(fresh) AS ord, generate_series(0, stored - 1) AS nth) f;
    END IF;
    IF 2 = ANY (statuses) THEN
        topic_conflicts := array_fill(0::bigint, ARRAY[cardinality(topic_ids)]);
        FOR place IN 1 .. cardinality(statuses) LOOP
            IF statuses[place] = 2 THEN
                number := topic_numbers[place];
                value := topic_conflicts[number] + 1;
                topic_conflicts[number] := value;
                conflict := conflict + 1;
            END IF;
        END LOOP;
    END IF;

    INSERT INTO sekali_topic_counts AS c
        (next_offset, duplicates, conflicts, first_received_at, last_received_at, topic_id, slot)
    SELECT n.next_offset, n.size - n.next_offset, coalesce(n.conflicts, 0), now_us, now_us, n.topic_id,
           of_slot
    FROM (SELECT unnest(topic_ids) AS topic_id, unnest(topic_sizes) AS size,
                 unnest(next_offsets) AS next_offset, unnest(topic_conflicts) AS conflicts) n
    ON CONFLICT (slot, topic_id) DO UPDATE
    SET next_offset = excluded.next_offset, duplicates = c.duplicates + c.next_offset + excluded.duplicates,
        conflicts = c.conflicts + excluded.conflicts,
        last_received_at = CASE WHEN excluded.next_offset > c.next_offset
                           THEN excluded.last_received_at ELSE c.last_received_at END;
    UPDATE sekali_slots t
    SET commits = t.commits + 1, next_seq = t.next_seq + stored,
        duplicates = t.duplicates + cardinality(event_ids) - stored, conflicts = t.conflicts + conflict,
        rejected = t.rejected + more_rejected,
        last_received_at = CASE WHEN stored > 0 THEN now_us ELSE t.last_received_at END
    WHERE t.slot = of_slot
    RETURNING t.next_seq, t.commits, t.next_topic INTO slot_next_seq, slot_commits, slot_next_topic;
    RETURN NEXT;
END
$$;

-- The first place below a bound whose event arrived at or after a time, or has at least a number;
-- the one that is not meant is null. Places are offsets of a topic, or numbers of the slot where no
-- topic is given. In both orders neither times nor numbers go back.
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
