-- oldest code: 0.1.0
-- As in 0002, but who has read everything has nothing unread: that needs no counting of what was, however much it is.

CREATE OR REPLACE FUNCTION mark_read(batch jsonb)
RETURNS TABLE (place integer, outcome text, conversation_id bigint, rev bigint, admin_id bigint,
               admin_read_seq bigint, guest_read_seq bigint, admin_unread integer, guest_unread integer)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
DECLARE
    locked bigint[];
BEGIN
    SELECT array_agg(held.id) INTO locked
    FROM (SELECT DISTINCT d.g, d.q FROM jsonb_to_recordset(batch) AS d (g bigint, q bigint)) wanted
    CROSS JOIN LATERAL (
        SELECT c.id FROM conversation c WHERE c.group_id = wanted.g AND c.guest_id = wanted.q
        LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) held;

    RETURN QUERY
    WITH mark AS MATERIALIZED (
        SELECT d.o, d.t, c.*, least(coalesce(d.r, c.last_seq), c.last_seq) AS target,
               CASE WHEN c.id IS NULL THEN 'missing'
                    WHEN locked IS NULL OR NOT c.id = ANY (locked) THEN 'busy'
                    WHEN d.t = 3 AND NOT coalesce(c.state = 'serving' AND c.admin_id = d.s
                                                  OR c.state = 'ended' AND c.last_served_by = d.s, false) THEN 'denied'
                    ELSE 'same' END AS outcome
        FROM jsonb_to_recordset(batch) AS d (o integer, g bigint, q bigint, t smallint, s bigint, r bigint)
        LEFT JOIN LATERAL (
            SELECT v.id, v.state, v.admin_id, v.last_served_by, v.last_seq, v.rev, v.admin_read_seq, v.guest_read_seq,
                   v.admin_unread, v.guest_unread
            FROM conversation v WHERE v.group_id = d.g AND v.guest_id = d.q LIMIT 1) c ON true
    ), wanted AS (
        SELECT k.id, max(k.target) FILTER (WHERE k.t = 3) AS by_admin, max(k.target) FILTER (WHERE k.t = 1) AS by_guest
        FROM mark k WHERE k.outcome = 'same' GROUP BY k.id
    ), moved AS (
        UPDATE conversation v
        SET rev = v.rev + 1,
            admin_read_seq = greatest(v.admin_read_seq, w.by_admin),
            guest_read_seq = greatest(v.guest_read_seq, w.by_guest),
            admin_unread = CASE WHEN w.by_admin > v.admin_read_seq AND w.by_admin >= v.last_seq THEN 0
                WHEN w.by_admin > v.admin_read_seq THEN v.admin_unread - (
                SELECT count(*) FROM message x WHERE x.conversation_id = v.id AND x.sender_type = 1
                AND x.seq > v.admin_read_seq AND x.seq <= w.by_admin
                AND x.recalls IS NULL AND x.recalled_by IS NULL) ELSE v.admin_unread END,
            guest_unread = CASE WHEN w.by_guest > v.guest_read_seq AND w.by_guest >= v.last_seq THEN 0
                WHEN w.by_guest > v.guest_read_seq THEN v.guest_unread - (
                SELECT count(*) FROM message x WHERE x.conversation_id = v.id AND x.sender_type = 3
                AND x.seq > v.guest_read_seq AND x.seq <= w.by_guest
                AND x.recalls IS NULL AND x.recalled_by IS NULL) ELSE v.guest_unread END
        FROM wanted w
        WHERE v.id = w.id AND (w.by_admin > v.admin_read_seq OR w.by_guest > v.guest_read_seq)
        RETURNING v.id, v.rev, v.admin_read_seq, v.guest_read_seq, v.admin_unread, v.guest_unread
    )
    SELECT k.o, CASE WHEN k.outcome = 'same' AND m.id IS NOT NULL
                     AND k.target > CASE k.t WHEN 3 THEN k.admin_read_seq ELSE k.guest_read_seq END
                     THEN 'moved' ELSE k.outcome END,
           k.id, coalesce(m.rev, k.rev), k.admin_id,
           coalesce(m.admin_read_seq, k.admin_read_seq), coalesce(m.guest_read_seq, k.guest_read_seq),
           coalesce(m.admin_unread, k.admin_unread), coalesce(m.guest_unread, k.guest_unread)
    FROM mark k LEFT JOIN moved m ON m.id = k.id;
END
$$;
