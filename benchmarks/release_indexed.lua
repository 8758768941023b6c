-- Gives back a lease that acquire_indexed.lua took. KEYS and the answer as in release.lua.
local instances = redis.call('HGET', KEYS[1], 'instances')
if not instances then
    return 0
end
redis.call('DECRBY', KEYS[2], instances)
redis.call('SREM', 'leases-of:bench', KEYS[1])
return redis.call('DEL', KEYS[1])
