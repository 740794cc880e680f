// The number of a workgroup in a grid whose second dimension takes what the first does not hold. It may exceed the
// number of units that the launch has.
fn unit_of(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.x + group.y * groups.x;
}
