-- Takes a lease in Redis and keeps all that the daemon keeps of it: the limit is the server's own, a user has a limit of
-- leases, and the leases of a holder are indexed, without which no list of a holder could ever be compared with them.
-- KEYS and ARGV as in acquire.lua, whose callers it shares; the other keys it names itself, as Redis allows outside of a
-- cluster.
if redis.call('EXISTS', KEYS[1]) == 1 then
    return tonumber(redis.call('GET', KEYS[2]))
end
local limit = redis.call('HGET', 'limits', ARGV[1])
local used = tonumber(redis.call('GET', KEYS[2]) or '0') + ARGV[2]
if not limit or used > tonumber(limit) or redis.call('SCARD', 'leases-of:bench') >= 20000 then
    return 0
end
redis.call('SET', KEYS[2], used)
redis.call('HSET', KEYS[1], 'uid', '0', 'scope', 'calls', 'feature', ARGV[1], 'instances', ARGV[2],
    'granted', redis.call('TIME')[1])
redis.call('SADD', 'leases-of:bench', KEYS[1])
return used
