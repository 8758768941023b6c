-- Takes a lease in Redis, the cheapest way that was found to do what the daemon does: held already, below the limit,
-- counted, recorded under a key of its own.
-- KEYS: the lease (its name has the holder and the lease's key), the instances in use. ARGV: feature, instances, limit.
-- Answers with the instances in use, 0 for a denial.
if redis.call('EXISTS', KEYS[1]) == 1 then
    return tonumber(redis.call('GET', KEYS[2]))
end
local used = tonumber(redis.call('GET', KEYS[2]) or '0') + ARGV[2]
if used > tonumber(ARGV[3]) then
    return 0
end
redis.call('SET', KEYS[2], used)
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2])
return used
