-- Gives a lease back in Redis. KEYS: the lease, the instances in use. Answers with the number of leases given back.
local lease = redis.call('GET', KEYS[1])
if not lease then
    return 0
end
redis.call('DECRBY', KEYS[2], string.match(lease, ' (%d+)$'))
return redis.call('DEL', KEYS[1])
