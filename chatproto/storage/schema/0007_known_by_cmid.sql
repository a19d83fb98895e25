-- oldest code: 0.1.0
-- As in 0001, but a cmid is looked up by the index that has it, whatever the planner knows. A plan is kept as long as its
-- connection and nobody analyses the table; made while the table is small, it may take the primary key, which begins with
-- the conversation too, and then reads the whole conversation for each message. The primary key has no order of cmids:
-- what is to come in that order, and is not to be sorted, can only come from the other index. BETWEEN, since an order by
-- what equals one value is none. The sorts that nothing else can do cost more than anything then, for the planner: it
-- would have the plan compiled, which takes far longer than running it.

CREATE OR REPLACE FUNCTION append_messages(threads jsonb, drafts jsonb, forced boolean)
RETURNS TABLE (place integer, outcome text, conversation_id bigint, seq bigint, created_at bigint, rev bigint,
               state text, admin_id bigint, admin_unread integer, guest_unread integer)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
SET enable_sort = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    at bigint := now_ms();
    held bigint[];
    ids bigint[];
    states text[];
    admins bigint[];
    aways boolean[];
    banned boolean[];
    seqs bigint[];
    revs bigint[];
    by_guests integer[];    -- unread by the admin
    by_admins integer[];    -- unread by the guest
BEGIN
    SELECT array_agg(c.id ORDER BY d.k), array_agg(c.state ORDER BY d.k), array_agg(c.admin_id ORDER BY d.k),
           array_agg(c.away ORDER BY d.k), array_agg(c.banned ORDER BY d.k), array_agg(c.last_seq ORDER BY d.k),
           array_agg(c.rev ORDER BY d.k), array_agg(c.admin_unread ORDER BY d.k), array_agg(c.guest_unread ORDER BY d.k)
    INTO held, states, admins, aways, banned, seqs, revs, by_guests, by_admins
    FROM jsonb_to_recordset(threads) AS d (k integer, g bigint, q bigint)
    LEFT JOIN LATERAL (
        SELECT v.id, v.state, v.admin_id, v.away, v.last_seq, v.rev, v.admin_unread, v.guest_unread,
               (SELECT p.status = 'banned' FROM guest p WHERE p.id = v.guest_id) AS banned
        FROM conversation v WHERE v.group_id = d.g AND v.guest_id = d.q
        LIMIT 1 FOR NO KEY UPDATE OF v SKIP LOCKED) c ON true;
    ids := held;
    IF array_position(held, NULL) IS NOT NULL THEN
        -- Locked elsewhere, or not there at all: a repeat is answered all the same.
        SELECT array_agg(c.id ORDER BY d.k), array_agg(c.state ORDER BY d.k), array_agg(c.admin_id ORDER BY d.k),
               array_agg(c.rev ORDER BY d.k), array_agg(c.admin_unread ORDER BY d.k),
               array_agg(c.guest_unread ORDER BY d.k)
        INTO ids, states, admins, revs, by_guests, by_admins
        FROM jsonb_to_recordset(threads) AS d (k integer, g bigint, q bigint)
        LEFT JOIN LATERAL (
            SELECT v.id, v.state, v.admin_id, v.rev, v.admin_unread, v.guest_unread
            FROM conversation v WHERE v.group_id = d.g AND v.guest_id = d.q LIMIT 1) c ON true;
    END IF;

    RETURN QUERY
    WITH draft AS MATERIALIZED (
        SELECT d.*, known.seq AS known_seq, known.created_at AS known_at,
               CASE WHEN known.seq IS NOT NULL
                        THEN CASE WHEN known.file_type = d.f AND known.body = d.b THEN 'dup' ELSE 'clash' END
                    WHEN d.f IS NULL THEN 'new'
                    WHEN ids[d.k] IS NULL THEN 'missing'
                    WHEN banned[d.k] THEN 'missing'
                    WHEN held[d.k] IS NULL THEN 'busy'
                    WHEN forced OR states[d.k] = 'queued' AND d.t = 1
                        OR states[d.k] = 'serving' AND NOT aways[d.k] AND (d.t = 1 OR admins[d.k] = d.s) THEN 'stored'
                    ELSE 'other' END AS outcome
        FROM jsonb_to_recordset(drafts)
            AS d (o integer, k integer, t smallint, s bigint, f smallint, m text, b text)
        LEFT JOIN LATERAL (
            SELECT x.seq, x.created_at, x.file_type, x.body FROM message x
            WHERE x.conversation_id = ids[d.k] AND x.sender_type = d.t AND x.sender_id = d.s
            AND x.cmid BETWEEN d.m AND d.m
            ORDER BY x.cmid LIMIT 1) known ON true
    ), numbered AS MATERIALIZED (
        SELECT draft.*, row_number() OVER thread AS nth, count(*) FILTER (WHERE draft.t = 1) OVER thread AS from_guest
        FROM draft WHERE draft.outcome = 'stored'
        WINDOW thread AS (PARTITION BY draft.k ORDER BY draft.o)
    ), stored AS (
        INSERT INTO message (conversation_id, seq, sender_id, created_at, sender_type, file_type, cmid, body)
        SELECT held[n.k], seqs[n.k] + n.nth, n.s, at, n.t, n.f, n.m, n.b FROM numbered n
    ), moved AS (
        UPDATE conversation v
        SET last_seq = v.last_seq + total.messages, rev = v.rev + total.messages, last_message_at = at,
            admin_unread = v.admin_unread + total.from_guest,
            guest_unread = v.guest_unread + total.messages - total.from_guest,
            last_admin_id = coalesce(total.by_admin, v.last_admin_id)
        FROM (SELECT held[n.k] AS id, max(n.nth) AS messages, max(n.from_guest) AS from_guest,
                     max(n.s) FILTER (WHERE n.t = 3) AS by_admin
              FROM numbered n GROUP BY n.k) total
        WHERE v.id = total.id
    )
    SELECT n.o, n.outcome, held[n.k], seqs[n.k] + n.nth, at, revs[n.k] + n.nth, states[n.k], admins[n.k],
           (by_guests[n.k] + n.from_guest)::integer, (by_admins[n.k] + n.nth - n.from_guest)::integer
    FROM numbered n
    UNION ALL
    SELECT d.o, d.outcome, ids[d.k], d.known_seq, coalesce(d.known_at, at), revs[d.k], states[d.k], admins[d.k],
           by_guests[d.k], by_admins[d.k]
    FROM draft d WHERE d.outcome <> 'stored';
END
$$;
