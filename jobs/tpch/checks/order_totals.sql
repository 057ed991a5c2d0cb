-- An order's total is the sum of its lines, each rounded down to cents twice; what is further away is wrong.
select
    o_orderkey,
    o_totalprice,
    sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)) as lines_total
from orders
join lineitem on l_orderkey = o_orderkey
group by o_orderkey, o_totalprice
having abs(o_totalprice - sum(l_extendedprice * (1 - l_discount) * (1 + l_tax))) > 0.02 * count(*)
