-- oldest code: 0.1.0
-- A guest logs in: finds or makes the guest, the conversation and the session, in one call, which is a transaction of its
-- own. What is known already is not written again: after a restart thousands come back with the name they had.
-- The guest is the shop's customer `external`, or, where that is NULL, the one of the token with the hash `token`, made
-- with it where `anew`. `home` is the group, or NULL for the only one there is. Of `called`, `picture`, `about` and
-- `page` NULL leaves what is there. `most` (NULL: any number) counts the person's other connections.
-- Outcomes: in · group (missing, banned, or not the only one) · revoked (the token) · banned · full · dead (the node)
CREATE FUNCTION guest_comes_in(
    shop integer, home bigint, external text, token bytea, anew boolean, called text, picture text, about text, page text,
    connection text, node bigint, most bigint)
RETURNS TABLE (outcome text, group_id bigint, gid bigint, name text, avatar text, conversation_id bigint)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    into_group bigint;
    of_group text;
    found_guest guest%ROWTYPE;
    is_new boolean := false;
    thread bigint;
    was text;
BEGIN
    IF home IS NULL THEN
        SELECT min(g.id), CASE WHEN count(*) = 1 THEN min(g.status) END INTO into_group, of_group
        FROM (SELECT x.id, x.status FROM service_group x WHERE x.shop_id = shop LIMIT 2) g;
    ELSE
        SELECT g.id, g.status INTO into_group, of_group FROM service_group g WHERE g.id = home AND g.shop_id = shop;
    END IF;
    IF of_group IS DISTINCT FROM 'active' THEN
        RETURN QUERY SELECT 'group', NULL::bigint, NULL::bigint, NULL::text, NULL::text, NULL::bigint;
        RETURN;
    END IF;

    IF external IS NOT NULL THEN
        SELECT g.* INTO found_guest FROM guest g WHERE g.shop_id = shop AND g.external_id = external;
        IF NOT FOUND THEN
            is_new := true;
            INSERT INTO guest AS g (shop_id, external_id, name, avatar, profile)
            VALUES (shop, external, coalesce(called, ''), coalesce(picture, ''), coalesce(about, '{}'))
            ON CONFLICT (shop_id, external_id) DO UPDATE SET name = coalesce(called, g.name),
                avatar = coalesce(picture, g.avatar), profile = coalesce(about, g.profile)
            RETURNING g.* INTO found_guest;
        END IF;
    ELSIF anew THEN
        INSERT INTO guest AS g (shop_id) VALUES (shop) RETURNING g.* INTO found_guest;
        INSERT INTO guest_token (hash, guest_id) VALUES (token, found_guest.id);
    ELSE
        UPDATE guest_token t SET last_used_at = now_ms() FROM guest g
        WHERE t.hash = token AND g.id = t.guest_id AND g.shop_id = shop
        RETURNING g.* INTO found_guest;
        IF NOT FOUND THEN
            RETURN QUERY SELECT 'revoked', NULL::bigint, NULL::bigint, NULL::text, NULL::text, NULL::bigint;
            RETURN;
        END IF;
    END IF;
    IF found_guest.status = 'banned' THEN
        RETURN QUERY SELECT 'banned', NULL::bigint, found_guest.id, NULL::text, NULL::text, NULL::bigint;
        RETURN;
    END IF;

    -- One login of a guest at a time, so that all are counted; class 1 of these locks is the groups', 2 the cluster's.
    PERFORM pg_advisory_xact_lock(3, (found_guest.id % 2147483647)::integer);
    IF (SELECT count(*) FROM session s WHERE s.person_type = 1 AND s.person_id = found_guest.id AND s.ended_at IS NULL
        AND s.ix <> connection) >= most THEN
        RETURN QUERY SELECT 'full', NULL::bigint, found_guest.id, NULL::text, NULL::text, NULL::bigint;
        RETURN;
    END IF;
    INSERT INTO session AS s (ix, node_id, person_type, person_id, group_id)
    SELECT connection, n.id, 1, found_guest.id, into_group FROM node n WHERE n.id = node
    ON CONFLICT (ix) DO UPDATE
        SET ended_at = NULL, settled = false, node_id = excluded.node_id, group_id = excluded.group_id;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'dead', NULL::bigint, found_guest.id, NULL::text, NULL::text, NULL::bigint;
        RETURN;
    END IF;

    IF external IS NOT NULL AND NOT is_new AND (coalesce(called <> found_guest.name, false)
        OR coalesce(picture <> found_guest.avatar, false) OR coalesce(about <> found_guest.profile, false)) THEN
        UPDATE guest g SET name = coalesce(called, g.name), avatar = coalesce(picture, g.avatar),
            profile = coalesce(about, g.profile)
        WHERE g.id = found_guest.id RETURNING g.* INTO found_guest;
    END IF;

    SELECT c.id, c.context INTO thread, was FROM conversation c
    WHERE c.group_id = into_group AND c.guest_id = found_guest.id;
    IF NOT FOUND OR page <> was THEN
        INSERT INTO conversation AS c (group_id, guest_id, context)
        VALUES (into_group, found_guest.id, coalesce(page, '{}'))
        ON CONFLICT (group_id, guest_id) DO UPDATE SET context = coalesce(page, c.context)
        RETURNING c.id INTO thread;
    END IF;
    RETURN QUERY SELECT 'in', into_group, found_guest.id, found_guest.name, found_guest.avatar, thread;
END
$$;
